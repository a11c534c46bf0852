"""``restyle interpolate``: a path through latents as frames, an animated WebP or an MP4."""

from __future__ import annotations

import click

from jobs.options import drawing, numbers


@click.command(epilog="Example: restyle interpolate latents/ anna ben --out morph.webp --loop")
@click.argument("latents")
@click.argument("keys", nargs=-1, required=True)
@click.option("--out", required=True, help="A folder for frames, a .webp, or an .mp4.")
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    default=24,
    show_default=True,
    help="Frames from one point to the next.",
)
@click.option("--loop", is_flag=True, help="Go on to the first point again.")
@click.option("--direction", help="Move each key along this one, as in `restyle edit`.")
@click.option("--strengths", default="", help="Points along it, such as -2,2.")
@click.option(
    "--fps",
    "frames_per_s",
    type=click.FloatRange(min=1, max=120),
    default=24.0,
    show_default=True,
    help="Frames a second.",
)
@drawing
def interpolate(
    latents: str,
    keys: tuple[str, ...],
    out: str,
    strengths: str,
    **settings: str | int | float | None,
) -> None:
    """Draw the way from image to image of a LATENTS folder, through KEYS in order, linear in W+.

    With one KEY, --direction and --strengths it shows an edit as it grows.
    """
    from pipeline.editing.interpolation import PathConfig
    from pipeline.editing.interpolation import interpolate as draw

    config = PathConfig(keys, strengths=numbers(strengths, "--strengths"), **settings)  # type: ignore[arg-type]
    n = draw(latents, out, config)
    click.echo(f"{n} frames: {out}")
