"""``restyle interpolate``: a path through latents as frames, an animated WebP or GIF, or an MP4."""

from __future__ import annotations

from typing import Any

import click

from jobs import flags, paths
from jobs.printing import say


@flags.command(
    "pipeline.editing.interpolation:PathConfig",
    epilog="Example: restyle interpolate latents/ anna ben --out morph.webp --loop",
)
@click.argument("latents", type=paths.FOLDER)
@click.argument("keys", nargs=-1, required=True)
@flags.out("A folder for frames, a .webp, a .gif, or an .mp4.")
def interpolate(latents: str, keys: tuple[str, ...], out: str, **options: Any) -> None:
    """Draw the way from image to image of a LATENTS folder, through KEYS in order, linear in W+.

    With one KEY, --direction and --strengths it shows an edit as it grows.
    """
    from jobs.console import n_of
    from pipeline.editing.interpolation import PathConfig
    from pipeline.editing.interpolation import interpolate as draw

    n = draw(latents, out, flags.build(PathConfig, options, keys=keys))
    say(f"{n_of(n, 'frame')}: {out}")
