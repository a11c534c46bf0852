"""``restyle pack``: a folder of photos -> WebDataset shards."""

from __future__ import annotations

import click

from jobs import paths
from jobs.printing import say
from jobs.values import Whole


@click.command(epilog="Example: restyle pack photos/ 'shards/%06d.tar'")
@click.argument("folder", type=click.Path(exists=True, file_okay=False))
@click.argument("pattern", type=paths.FILE)
@click.option(
    "--samples",
    type=Whole(min=1),
    default=1000,
    show_default=True,
    help="Samples per shard.",
)
def pack(folder: str, pattern: str, samples: int) -> None:
    """Pack the photos of FOLDER and its subfolders into shards named by PATTERN.

    Links are followed. Keys keep the path below FOLDER; a .json, .txt or .cls beside a photo is packed
    with it. Files are stored as they are, in sorted order; the same folder gives the same shards, to the
    byte. Shards that an earlier packing wrote behind the last one are removed.
    """
    from jobs.console import n_of, say_some, say_unreadable
    from pipeline.shards import packing

    packed = packing.pack(folder, pattern, samples)
    shards = n_of(len(packed.shards), "shard")
    say(f"{n_of(packed.n_images, 'photo')} in {shards}: {packed.shards[0]} ...")
    for path, key in packed.renamed[:10]:
        say(f"  {path} has the key {key}, for a key ends at the first dot and must be unique")
    if len(packed.renamed) > 10:
        say(f"  {len(packed.renamed) - 10} more keys differ from their paths")
    say_unreadable(packed.extensions)
    say_some(
        packed.dangling, "link", "skipped {} to nothing, or to a folder that is packed anyway: "
    )
    say_some(packed.unreadable, "folder", "skipped {} that cannot be looked into: ")
    say_some(packed.removed, "shard", "removed {} of an earlier packing: ")
    say_some(
        packed.foreign, "shard", "{} of this pattern were not written by restyle pack and stay: "
    )
    say_some(packed.skipped, "file", "skipped {} without the extension of a photo: ")
