"""``restyle compare``: several runs over the same images."""

from __future__ import annotations

import click

from jobs import paths
from jobs.printing import say
from jobs.values import Whole


@click.command(epilog="Example: restyle compare five_steps/ two_steps/ --out compare.html")
@click.argument("latents", nargs=-1, required=True, type=paths.FOLDER)
@click.option(
    "--out",
    type=paths.FILE,
    help="Also write one HTML page with the images in which the runs differ.",
)
@click.option(
    "--limit",
    type=Whole(min=0),
    default=48,
    show_default=True,
    help="Images shown on the page; statistics cover all.",
)
@click.option(
    "--resamples",
    type=Whole(100, 1_000_000),
    default=2000,
    show_default=True,
    help="Bootstrap resamples of images for the intervals.",
)
@click.option("--seed", type=Whole(min=0), default=0, show_default=True, help="Of the bootstrap.")
@click.option(
    "--photos",
    type=paths.FILE,
    help="Folder or address of the shards, or folder of the photos. Default: where they were inverted, on "
    "this machine.",
)
def compare(
    latents: tuple[str, ...],
    out: str | None,
    limit: int,
    resamples: int,
    seed: int,
    photos: str | None,
) -> None:
    """Compare LATENTS folders of the same images: models, step counts, precisions.

    The others are compared with the first folder, image by image. Runs over different inputs are refused.
    """
    from pipeline.report import comparison

    comparison_result = comparison.compare(latents, n_resamples=resamples, seed=seed)
    table = comparison.table(comparison_result).split("\n")
    say(*table)
    if out is not None:
        notes = comparison.write(comparison_result, out, limit=limit, photos=photos)
        for note in (note for note in notes if note not in table):
            say(note, err=True)
        say("", f"page: {out}")
