"""Decoding, alignment and the chips of faces on CPU workers across the cluster: in order, and bounded.

The work of one sample is a plain function (:func:`prepare`), free of Ray and torch; `pipeline.chunks` spreads
it as stateless Ray tasks. dlib's models live in the worker process, loaded once.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from pipeline.chunks import Crash, Labour
from pipeline.faces import alignment, images
from pipeline.records import AlignedFace, Sample, Status
from pipeline.stopwatch import Stopwatch

# Samples in one Ray task: enough to hide its overhead of a millisecond, few enough to spread a shard.
SAMPLES_PER_TASK = 4
ROWS_PER_TASK = 8  # whose chips are cut
# Smallest side of the square that the quad is first transformed to, as published (256), so that small
# encoder inputs are averaged rather than sampled.
MIN_TRANSFORM_SIZE = 256

# How libraries fail on a picture that they did not foresee. A missing package or file (ImportError, OSError)
# is no sample's fault.
UNFORESEEN = (ArithmeticError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class AlignSettings:
    """What :func:`prepare` needs of a run."""

    mode: str  # "face" or "none"
    detection: str  # "largest" or "all"
    height: int  # of the encoder's input
    width: int
    chips: bool = False  # whether dlib's identity is to be measured


def prepare(sample: Sample, settings: AlignSettings) -> list[AlignedFace]:
    """Rows of one sample: at least one, whatever is wrong with it."""
    if sample.image is None:
        return [AlignedFace(sample.index, sample.key, sample.status, sample.error)]
    try:
        picture = images.decode(sample.image)
    except images.ImageError as error:
        return [AlignedFace(sample.index, sample.key, Status.DECODE_ERROR, str(error))]
    row = functools.partial(
        AlignedFace, sample.index, sample.key, width=picture.shape[1], height=picture.shape[0]
    )
    if settings.mode == "none":
        resized = _resize(picture, settings)
        return [row(status=Status.OK, image_u8=resized, chip_u8=_chip(resized, settings))]

    from pipeline.faces import detection

    # All faces want a search at every scale; the largest is found at the first that shows one.
    found = detection.detect(picture, every_scale=settings.faces == "all")
    if not found:
        return [row(status=Status.NO_FACE, error="no face was found", n_faces=0)]
    wanted = found if settings.faces == "all" else found[:1]
    return [
        _crop(picture, face, settings, functools.partial(row, face=i, n_faces=len(found)))
        for i, face in enumerate(wanted)
    ]


def _chip(aligned_u8: np.ndarray, settings: AlignSettings) -> np.ndarray | None:
    if not settings.chips:
        return None
    from pipeline.faces import detection

    return detection.chip_aligned(aligned_u8)


def _resize(picture: np.ndarray, settings: AlignSettings) -> np.ndarray:
    size = (settings.width, settings.height)
    if picture.shape[:2] == size[::-1]:
        return picture
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))


def _crop(
    picture: np.ndarray, face: Any, settings: AlignSettings, row: Callable[..., AlignedFace]
) -> AlignedFace:
    size = max(settings.height, settings.width)
    row = functools.partial(row, landmarks=face.landmarks, detection_score=face.score)
    try:
        quad = alignment.quad(face.landmarks)
        crop = alignment.crop(picture, quad, size, max(MIN_TRANSFORM_SIZE, size))
    except ValueError as error:
        return row(status=Status.ALIGN_ERROR, error=str(error))
    resized = _resize(crop, settings)
    chip = _chip(resized, settings)
    return row(status=Status.OK, quad=quad, image_u8=resized, chip_u8=chip)


def _prepare_all(
    samples: list[Sample], settings: AlignSettings
) -> tuple[list[list[AlignedFace]], float]:
    start = time.perf_counter()
    rows = [_prepare_any(sample, settings) for sample in samples]
    return rows, time.perf_counter() - start


def _prepare_any(sample: Sample, settings: AlignSettings) -> list[AlignedFace]:
    try:
        return prepare(sample, settings)
    except UNFORESEEN as error:
        return [_crashed(sample, f"alignment failed: {type(error).__name__}: {error}"[:500])]


def _crashed(sample: Sample, error: str) -> AlignedFace:
    return AlignedFace(sample.index, sample.key, Status.CRASHED, error)


def _chips_all(
    items: list[list[np.ndarray]],
) -> tuple[list[list[np.ndarray] | Crash], float]:
    start = time.perf_counter()
    return [_chips_any(pictures) for pictures in items], time.perf_counter() - start


def _chips_any(pictures: list[np.ndarray]) -> list[np.ndarray] | Crash:
    from pipeline.faces import detection

    try:
        return [detection.chip_aligned(picture) for picture in pictures]
    except UNFORESEEN as error:
        return Crash(f"identity failed: {type(error).__name__}: {error}"[:500])


def aligned(
    samples: Iterator[Sample], settings: AlignSettings, n_in_flight: int, clock: Stopwatch
) -> Iterator[AlignedFace]:
    """Rows of a shard's samples, in order; busy time is added to the stage "align".

    Raises:
        ShardError: the cluster loses every node that a chunk of samples is sent to.
    """
    labour: Labour[Sample, list[AlignedFace]] = Labour(_prepare_all, (settings,))
    for sample, rows, busy in labour.in_order(samples, SAMPLES_PER_TASK, n_in_flight):
        clock.add("align", busy)
        if isinstance(rows, Crash):
            yield _crashed(sample, rows.error)
        else:
            yield from rows


def warm_up(n_tasks: int) -> None:
    """Have CPU workers start and load dlib's models while the caller loads its own; waits for nothing."""
    for _ in range(n_tasks):
        Labour(_load_models).begin([])


def _load_models(_: list[None]) -> tuple[list[None], float]:
    from pipeline.faces import detection

    detection.load()
    return [], 0.0


# Of each row its reconstructions at the steps that are measured, [h, w, 3] uint8 -> their chips, in order.
CHIPS: Labour[list[np.ndarray], list[np.ndarray]] = Labour(_chips_all)


class Chips:
    """Chips of some rows' reconstructions, being cut by CPU workers."""

    def __init__(self, pictures: list[list[np.ndarray]]) -> None:
        """pictures: of each row, as `CHIPS` takes them."""
        chunks = [pictures[i : i + ROWS_PER_TASK] for i in range(0, len(pictures), ROWS_PER_TASK)]
        self._chunks = [(CHIPS.begin(chunk), chunk) for chunk in chunks]

    def cut(self) -> tuple[list[list[np.ndarray] | Crash], float]:
        """Of each row its chips, once all are there, and the workers' busy seconds.

        Raises:
            ShardError: the cluster loses every node that a chunk is sent to.
        """
        found = [CHIPS.finish(reference, chunk) for reference, chunk in self._chunks]
        return [each for results, _ in found for each in results], sum(busy for _, busy in found)
