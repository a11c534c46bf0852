"""``restyle render``: latents as pictures, or pasted back into their photos."""

from __future__ import annotations

import sys
from typing import Any

import click
from tqdm import tqdm

from jobs import flags
from jobs.printing import say


@flags.command(
    "pipeline.editing.render:RenderConfig",
    epilog="Example: restyle render edited/ --out pictures/ --paste-back",
)
@click.argument("latents")
@flags.out("Folder for the pictures.")
def render(latents: str, out: str, **options: Any) -> None:
    """Draw the rows of a LATENTS folder, or of an edited one, at the generator's full size.

    Pictures that exist already stay, so running the same command again resumes one that was stopped.
    Photos to paste into are read from the shards again.
    """
    from jobs.console import n_of
    from pipeline.editing import render

    config = flags.build(render.RenderConfig, options)
    with tqdm(unit="row", desc="drawing") as bar:
        done = render.render(latents, out, config, bar.update)
    existing = f", {done.n_there} existed before" if done.n_there else ""
    without = f", {n_of(done.n_without, 'row')} without a latent" if done.n_without else ""
    say(f"{n_of(done.n_written, 'picture')}{existing}{without}: {out}")
    if done.keys_missing:
        missing = ", ".join(sorted(done.keys_missing)[:10])
        say(f"not found: {missing}; keys are such as {', '.join(done.keys_seen)}", err=True)
        sys.exit(1)
