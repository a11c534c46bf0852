"""Video clips -> WebDataset shards of their frames, in order, with times as labels."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import webdataset
from PIL import Image

from pipeline.errors import ConfigError
from pipeline.shards import clips, packing
from pipeline.shards.clips import ClipFile, ClipFrame
from pipeline.shards.packing import Packed

FrameFormat = Literal["jpg", "png"]
# Visually lossless, with full colour resolution, about a fifth of a PNG; clips have lost more already.
JPEG_QUALITY = 95


def holds_clips(inputs: Sequence[str]) -> bool:
    """Whether these are clips rather than photos: files, or folders that hold videos and no photo."""
    photos, others = [], []
    for path in inputs:
        if not Path(path).is_dir():
            return True
        found = packing.folders.walked(path)
        photos += found.files
        others += [name for name in found.skipped if clips.is_clip(name)]
    return bool(others) and not photos


def pack(
    inputs: Sequence[str],
    pattern: str,
    samples_per_shard: int,
    frame_format: FrameFormat = "jpg",
    progress: Callable[[], object] = lambda: None,
) -> Packed:
    """Write the frames of clips to shards: keys such as ``clip/000000``, a .json with times beside each.

    A shard holds whole clips: it is closed behind the clip that fills it, so a long clip makes a large one.
    One frame is in memory at a time. Shards of an earlier packing behind the last one are removed.

    Args:
        inputs: video files, and folders of them.
        pattern: path with one %d, such as ``shards/%06d.tar``.
        progress: called after each frame.

    Raises:
        ConfigError: no clip, one that cannot be read, or a pattern that cannot name shards.
    """
    found = clips.named(inputs)
    for clip in found:  # what is none is told before hours of decoding
        with clips.opened(clip.path):
            pass
    packed = Packed()
    waiting = list(found)
    while waiting:
        shard = packing.shard_name(pattern, len(packed.shards), len(found) > 1)
        n_before = packed.n_images
        try:
            with packing.written(shard) as tar:
                while waiting and packed.n_images - n_before < samples_per_shard:
                    clip = waiting.pop(0)
                    packed.n_images += _write(tar, clip, frame_format, progress)
        except OSError as error:
            raise ConfigError(f"cannot pack {clip.path} into {shard}: {error}") from None
        packed.shards.append(str(shard))
    packed.clips = [clip.name for clip in found]
    packing.remove_later(pattern, len(packed.shards), packed)
    return packed


def _write(
    tar: webdataset.TarWriter,
    clip: ClipFile,
    frame_format: FrameFormat,
    progress: Callable[[], object],
) -> int:
    """Write the frames of a clip; how many there are."""
    n = 0
    frames: Iterator[ClipFrame] = clips.frames(clip.path)
    with closing(frames):  # type: ignore[type-var]  # a generator
        for frame in frames:
            labels = asdict(frame)
            del labels["image_u8"]
            labels = {"clip": clip.name, "frame": labels.pop("number"), **labels}
            tar.write(
                {
                    "__key__": f"{clip.name}/{frame.number:06d}",
                    frame_format: _encoded(frame, frame_format),
                    "json": json.dumps(labels).encode(),
                }
            )
            n += 1
            progress()
    return n


def _encoded(frame: ClipFrame, frame_format: FrameFormat) -> bytes:
    buffer = io.BytesIO()
    picture = Image.fromarray(frame.image_u8)
    if frame_format == "png":
        picture.save(buffer, "PNG", compress_level=1)
    else:
        picture.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()
