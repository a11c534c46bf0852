"""``restyle render``: latents as pictures, or pasted back into their photos."""

from __future__ import annotations

import sys

import click
from tqdm import tqdm

from jobs.options import drawing, words


@click.command(epilog="Example: restyle render edited/ --out pictures/ --paste-back")
@click.argument("latents")
@click.option("--out", required=True, help="Folder for the pictures.")
@click.option("--format", type=click.Choice(["jpg", "png"]), default="jpg", show_default=True)
@click.option(
    "--paste-back", is_flag=True, help="Warp the picture into the photo that the face was found in."
)
@click.option(
    "--feather",
    type=click.FloatRange(min=0, max=0.5),
    default=0.2,
    show_default=True,
    help="Width of the seam of --paste-back, as a share of the face's square.",
)
@click.option("--keys", default="", help="Comma-separated: only these images. Default: all.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many pictures.")
@drawing
def render(latents: str, out: str, keys: str, **settings: str | int | float | bool | None) -> None:
    """Draw the rows of a LATENTS folder, or of an edited one, at the generator's full size.

    Pictures that are there already stay, so the same command continues one that was stopped. Photos to
    paste into are read from the shards again.
    """
    from pipeline.editing import render

    config = render.RenderConfig(keys=words(keys), **settings)  # type: ignore[arg-type]
    with tqdm(unit="row", desc="drawing") as bar:
        done = render.render(latents, out, config, bar.update)
    there = f", {done.n_there} were there before" if done.n_there else ""
    without = f", {done.n_without} rows without a latent" if done.n_without else ""
    click.echo(f"{done.n_written} pictures{there}{without}: {out}")
    if done.keys_missing:
        click.echo(f"not found: {', '.join(sorted(done.keys_missing)[:10])}", err=True)
        sys.exit(1)
