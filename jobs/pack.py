"""``restyle pack``: a folder of photos -> WebDataset shards."""

from __future__ import annotations

import click


@click.command(epilog="Example: restyle pack photos/ 'shards/%06d.tar'")
@click.argument("folder", type=click.Path(exists=True, file_okay=False))
@click.argument("pattern")
@click.option(
    "--samples",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Samples in a shard.",
)
def pack(folder: str, pattern: str, samples: int) -> None:
    """Pack the photos of FOLDER and its subfolders into shards named by PATTERN.

    Keys keep the path below FOLDER; a .json, .txt or .cls beside a photo goes with it. Files are
    stored as they are, in sorted order; the same folder gives the same shards, to the byte.
    """
    from pipeline.shards import packing

    packed = packing.pack(folder, pattern, samples)
    click.echo(f"{packed.n_images} photos in {len(packed.shards)} shards: {packed.shards[0]} ...")
    for path, key in packed.renamed[:10]:
        click.echo(
            f"  {path} has the key {key}, for a key ends at the first dot and must be unique"
        )
    if len(packed.renamed) > 10:
        click.echo(f"  {len(packed.renamed) - 10} more keys differ from their path")
    if packed.skipped:
        names = ", ".join(packed.skipped[:5]) + (" ..." if len(packed.skipped) > 5 else "")
        click.echo(f"{len(packed.skipped)} files are no photos by their extension: {names}")
