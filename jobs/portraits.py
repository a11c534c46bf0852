"""``restyle portraits``: rendered portraits as shards, to train and to measure on."""

from __future__ import annotations

import re
from pathlib import Path

import click
from tqdm import tqdm

from jobs import paths
from jobs.printing import say
from jobs.values import Whole


def _there(pattern: str) -> int:
    """Shards that the pattern may name and that exist."""
    folder, name = Path(pattern).parent, re.sub(r"%\d*d", "*", Path(pattern).name)
    return len(list(folder.glob(name)))


@click.command(epilog="Example: restyle portraits 'portraits/%06d.tar' --count 60000 --size 64")
@click.argument("pattern", type=paths.FILE)
@click.option("--count", type=Whole(1, 100_000_000), required=True, help="How many.")
@click.option(
    "--size", type=Whole(16, 1024), default=256, show_default=True, help="Height and width."
)
@click.option(
    "--view",
    type=click.Choice(["aligned", "photo"]),
    default="aligned",
    show_default=True,
    help="aligned: the crop that FFHQ's alignment gives. photo: head and shoulders.",
)
@click.option(
    "--seed",
    type=Whole(0, 10**12),
    default=0,
    show_default=True,
    help="Seed of the data set.",
)
@click.option(
    "--samples",
    type=Whole(min=1),
    default=2000,
    show_default=True,
    help="Samples per shard.",
)
def portraits(pattern: str, count: int, size: int, view: str, seed: int, samples: int) -> None:
    """Render portraits of people who do not exist into shards named by PATTERN.

    A sample is a PNG, a .npy with the normals it was drawn from (z of a distilled generator) and a
    .json with its attributes: smile, glasses, yaw and twenty more. The same command writes the same
    shards and leaves existing ones alone.
    """
    from jobs.console import n_of
    from pipeline.portraits import shards

    if Path(pattern).suffix == ".tar" and (n_existing := _there(pattern)):
        say(f"{n_existing} shards exist already and stay as they are")
    with tqdm(total=count, unit="portrait", desc="rendering") as bar:
        written = shards.write(
            pattern,
            count,
            size=size,
            view=view,  # type: ignore[arg-type]
            seed=seed,
            per_shard=samples,
            progress=bar.update,
        )
    say(
        f"{n_of(count, 'portrait')} in {n_of(len(written), 'shard')}, the first of them {written[0]}"
    )
