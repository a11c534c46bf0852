"""One face from frame to frame, and values over time made smooth: pure functions of what was detected.

The kernel is a Hann window, cos²(π d / (2 (r + 1))) at d frames from the middle of a window of 2 r + 1. Of 5
frames it is 0.25, 0.75, 1, 0.75, 0.25, which stylegan3-editing smooths latents and transforms with. There two
frames at either end are dropped; here each frame has a row, and at an end, or beside a frame without a value,
the weights that are left are scaled to a sum of 1.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Generic, TypeVar

import numpy as np

from pipeline.faces import alignment

# A face is the one of the frame before where its square's centre moved by less than this part of the
# square's side (about half a head), and its side by less than this factor.
MAX_SHIFT, MAX_ZOOM = 0.35, 1.5

T = TypeVar("T")


@dataclass(frozen=True)
class Detections:
    """What was found in one frame."""

    landmarks: np.ndarray  # [n_faces, 68, 2] float32, largest face first
    scores: tuple[float, ...]  # of the detector


NOTHING = Detections(np.zeros((0, 68, 2), np.float32), ())


@dataclass(frozen=True)
class Position:
    """Where the face is that is followed."""

    landmarks: np.ndarray  # [68, 2] float32, pixels of the frame
    track: int  # from 0; a face that was lost for too long comes back as the next
    face: int = 0  # its number in the frame; 0 where it was not found
    score: float | None = None  # of the detector; None where it was not found
    is_interpolated: bool = False  # between the frames where it was found


@dataclass(frozen=True)
class Followed(Generic[T]):
    """A frame, and where its face is."""

    frame: T
    position: Position | None  # None: lost


def kernel(window: int) -> np.ndarray:
    """Weights of an odd number of frames, [window] float64; the middle one is 1."""
    reach = window // 2
    distance = np.arange(-reach, reach + 1)
    return np.cos(np.pi * distance / (2 * (reach + 1))) ** 2


def smoothed(values: Sequence[np.ndarray | None], weights: np.ndarray) -> np.ndarray:
    """The weighted mean of those values that are there, float64; one of them is."""
    total, weight = 0.0, 0.0
    for value, of_one in zip(values, weights, strict=True):
        if value is not None:
            total, weight = total + of_one * value.astype(np.float64), weight + of_one
    return np.asarray(total / weight)


def windows(items: Iterable[T], reach: int) -> Iterator[list[T | None]]:
    """Each item in the middle of a list, with ``reach`` items before and behind it (None: there is none)."""
    held: deque[T | None] = deque([None] * (2 * reach), maxlen=2 * reach + 1)
    for item in chain(items, [None] * reach):
        held.append(item)
        if held[reach] is not None:
            yield list(held)


def follow(frames: Iterable[tuple[T, Detections]], gap: int) -> Iterator[Followed[T]]:
    """Follow one face through the frames of a clip: at first the largest, then the nearest to its last place.

    Where it is not found for up to ``gap`` frames, its landmarks are interpolated; so many frames are held
    at most. Behind more it is looked for again, near its last place, then anywhere.
    """
    last: Position | None = None
    lost: list[T] = []
    is_lost = True  # for too long, or not found yet
    for frame, found in frames:
        which = None if last is None else nearest(found.landmarks, last.landmarks)
        if which is None and is_lost and len(found.scores):
            which = 0
        if which is None:
            lost.append(frame)
            is_lost = is_lost or len(lost) > gap
            if is_lost:
                yield from (Followed(each, None) for each in lost)
                lost = []
            continue
        track = 0 if last is None else last.track + is_lost
        here = Position(found.landmarks[which], track, which, found.scores[which])
        if last is not None:
            yield from _between(last, here, lost)
        yield Followed(frame, here)
        last, lost, is_lost = here, [], False
    yield from (Followed(each, None) for each in lost)


def _between(before: Position, after: Position, frames: Sequence[T]) -> Iterator[Followed[T]]:
    for i, frame in enumerate(frames, start=1):
        share = i / (len(frames) + 1)
        landmarks = (1 - share) * before.landmarks + share * after.landmarks
        place = Position(landmarks.astype(np.float32), before.track, is_interpolated=True)
        yield Followed(frame, place)


def nearest(faces: np.ndarray, last: np.ndarray) -> int | None:
    """The face [n, 68, 2] whose square is nearest to that of landmarks [68, 2]; None: none is near."""
    centre, side = _square(last) or (np.zeros(2), 0.0)
    best: tuple[float, int] | None = None
    for i, landmarks in enumerate(faces):
        square = _square(landmarks)
        if square is None or not 1 / MAX_ZOOM < square[1] / max(side, 1e-6) < MAX_ZOOM:
            continue
        shift = float(np.hypot(*(square[0] - centre)))
        if shift < MAX_SHIFT * side and (best is None or shift < best[0]):
            best = shift, i
    return None if best is None else best[1]


def _square(landmarks: np.ndarray) -> tuple[np.ndarray, float] | None:
    try:
        quad = alignment.quad(landmarks)
    except ValueError:
        return None
    return quad.mean(axis=0), float(np.hypot(*(quad[3] - quad[0])))


def smooth(frames: Iterable[Followed[T]], window: int) -> Iterator[Followed[T]]:
    """Average the landmarks of each track over a window; ``window // 2`` frames are held for it."""
    weights, reach = kernel(window), window // 2
    for around in windows(frames, reach):
        middle = around[reach]
        assert middle is not None
        if middle.position is None or not reach:
            yield middle
            continue
        positions = [None if one is None else one.position for one in around]
        track = middle.position.track
        near = [p.landmarks if p is not None and p.track == track else None for p in positions]
        landmarks = smoothed(near, weights).astype(np.float32)
        yield replace(middle, position=replace(middle.position, landmarks=landmarks))
