"""``restyle report``: a latent data set as one HTML page."""

from __future__ import annotations

import click

from jobs import paths
from jobs.printing import say
from jobs.values import Whole


@click.command(epilog="Example: restyle report latents/ --out report.html")
@click.argument("latents", type=paths.FOLDER)
@click.option(
    "--out",
    type=paths.FILE,
    default="report.html",
    show_default=True,
    help="The HTML file to write.",
)
@click.option(
    "--limit",
    type=Whole(min=0),
    default=64,
    show_default=True,
    help="Rows shown with pictures, and failures listed; statistics cover all rows.",
)
@click.option(
    "--model",
    type=paths.FILE,
    help="Where the encoder checkpoint is now. Default: where the run had it.",
)
@click.option("--generator", type=paths.FILE, help="The same for a separate generator file.")
@click.option(
    "--photos",
    type=paths.FILE,
    help="Folder or address of the shards, or folder of the photos. Default: where they were inverted, on "
    "this machine.",
)
def report(
    latents: str,
    out: str,
    limit: int,
    model: str | None,
    generator: str | None,
    photos: str | None,
) -> None:
    """Write one self-contained HTML page about a LATENTS folder.

    Source photos are read from the shards again; the pictures of each step are drawn from the
    latents. Whatever is no longer available is left out, and the page says so.
    """
    from pipeline.report import write

    written = write(latents, out, limit=limit, model=model, generator=generator, photos=photos)
    for note in written.notes:
        say(note, err=True)
    size = written.n_bytes / 1e6
    shown = f"{written.n_shown} of {written.n_rows} rows with pictures"
    say(f"report: {written.path} ({shown}, {size:.1f} MB)")
