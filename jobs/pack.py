"""``restyle pack``: a folder of photos, or clips -> WebDataset shards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

from jobs import paths
from jobs.printing import say
from jobs.values import Whole

if TYPE_CHECKING:
    from pipeline.shards.packing import Packed


@click.command(
    epilog="Example: restyle pack photos/ 'shards/%06d.tar'\n\n"
    "Example: restyle pack clip.mp4 'shards/%06d.tar'"
)
@click.argument("inputs", nargs=-1, required=True, type=paths.FILE)
@click.argument("pattern", type=paths.FILE)
@click.option(
    "--samples",
    type=Whole(min=1),
    default=1000,
    show_default=True,
    help="Samples per shard; of clips the number behind which no further clip is begun.",
)
@click.option(
    "--frame-format",
    type=click.Choice(["jpg", "png"]),
    default="jpg",
    show_default=True,
    help="How the frames of clips are stored: JPEG of quality 95 with full colours, or lossless.",
)
def pack(inputs: tuple[str, ...], pattern: str, samples: int, frame_format: Any) -> None:
    """Pack INPUTS into shards named by PATTERN: a folder of photos, or clips and folders of clips.

    Photos: links are followed. Keys keep the path below the folder; a .json, .txt or .cls beside a photo is
    packed with it. Files are stored as they are, in sorted order; the same folder gives the same shards, to
    the byte.

    Clips (.mp4, .mov, .mkv ...): each frame is a sample, such as clip/000000, with its clip, number, time and
    frames per second in a .json. A shard holds whole clips, so a long clip makes a large shard. A folder
    counts as clips where it holds no photo.

    Shards that an earlier packing wrote behind the last one are removed.
    """
    from pipeline.errors import ConfigError
    from pipeline.shards import clip_packing, packing

    if clip_packing.holds_clips(inputs):
        with tqdm(unit="frame", desc="packing") as bar:
            packed = clip_packing.pack(inputs, pattern, samples, frame_format, bar.update)
    elif len(inputs) > 1:
        raise ConfigError(
            "photos are packed from one folder, with its subfolders; name the folder above these"
        )
    else:
        packed = packing.pack(inputs[0], pattern, samples)
    _tell(packed)


def _tell(packed: Packed) -> None:
    from jobs.console import n_of, say_some, say_unreadable

    shards = n_of(len(packed.shards), "shard")
    if packed.clips:
        what = f"{n_of(packed.n_images, 'frame')} of {n_of(len(packed.clips), 'clip')}"
    else:
        what = n_of(packed.n_images, "photo")
    say(f"{what} in {shards}: {packed.shards[0]} ...")
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
