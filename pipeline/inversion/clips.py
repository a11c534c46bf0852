"""The frames of a shard as clips: a bounded look ahead, for what following and averaging need to know.

A clip is what consecutive samples are that have one folder in their keys, as `restyle pack` names frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, groupby, islice

import numpy as np

from pipeline.clip_config import ClipConfig
from pipeline.errors import ConfigError
from pipeline.faces import tracking
from pipeline.faces.tracking import Detections, Position
from pipeline.latents.schema import Row
from pipeline.records import AlignedFace, Sample
from pipeline.shards import parquet, photo_shards


@dataclass(frozen=True)
class Seen:
    """What was found in a frame."""

    index: int  # of its sample
    found: Detections
    failure: AlignedFace | None  # the row of one that cannot be used


@dataclass(frozen=True)
class Placed:
    """A frame to be cut at a place; pixels are still encoded."""

    sample: Sample
    n_faces: int  # found in it
    position: Position | None  # None: the face is lost
    failure: AlignedFace | None = None  # the row of one that cannot be used


def require_tars(shards: Iterable[str]) -> None:
    """Refuse shards that may end within a clip.

    Raises:
        ConfigError: some are not tars.
    """
    if any(photo_shards.is_photos(url) or parquet.is_parquet(url) for url in shards):
        raise ConfigError(
            "--video takes tars, which hold whole clips; pack them first: restyle pack clip.mp4 "
            "'shards/%06d.tar' (frames in a folder: restyle pack frames/ one.tar --samples 1000000)"
        )


def clip_of(key: str) -> str:
    """The clip that a sample is a frame of."""
    return key.rpartition("/")[0]


def placed(frames: Iterable[tuple[Sample, Seen]], config: ClipConfig) -> Iterator[Placed]:
    """Where to cut each frame, in order; ``config.gap`` and half a window of frames are held at most."""
    for _, clip in groupby(frames, key=lambda frame: clip_of(frame[0].key)):
        found = ((frame, frame[1].found) for frame in clip)
        followed = tracking.follow(found, config.gap)
        for one in tracking.smooth(followed, config.landmark_window):
            sample, seen = one.frame
            if seen.failure is not None:  # its bytes are not sent anywhere
                yield Placed(replace(sample, image=None), 0, None, seen.failure)
            else:
                yield Placed(sample, len(seen.found.scores), one.position)


def smoothed(batches: Iterable[list[Row]], window: int, n_rows: int) -> Iterator[list[Row]]:
    """Rows with the average of their latents over a window of their track, ``n_rows`` at a time."""
    rows = _smoothed(chain.from_iterable(batches), window)
    while batch := list(islice(rows, n_rows)):
        yield batch


def _smoothed(rows: Iterable[Row], window: int) -> Iterator[Row]:
    weights, reach = tracking.kernel(window), window // 2
    for around in tracking.windows(rows, reach):
        row = around[reach]
        assert row is not None
        if row.latents is not None and reach:
            near = [_latent(other, row) for other in around]
            row.smoothed = tracking.smoothed(near, weights).astype(np.float32)
        yield row


def _latent(row: Row | None, beside: Row) -> np.ndarray | None:
    """The latent of a row, where it is of the same track of the same clip."""
    if row is None or row.latents is None or row.face.track != beside.face.track:
        return None
    is_same = clip_of(row.face.key) == clip_of(beside.face.key)
    return np.asarray(row.latents[-1]) if is_same else None
