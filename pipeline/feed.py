"""Decoding, alignment and identity on CPU workers across the cluster: in order, and bounded.

The work of one sample is a plain function (:func:`prepare`), free of Ray and torch; the generators spread
it as stateless Ray tasks. dlib's models live in the worker process, loaded once.
"""

from __future__ import annotations

import functools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from pipeline import align, images
from pipeline.records import AlignedFace, Sample, Status
from pipeline.stopwatch import Stopwatch

# Samples in one Ray task: enough to hide its overhead of a millisecond, few enough to spread a shard.
SAMPLES_PER_TASK = 4
# Smallest side of the square that the quad is first transformed to, as published (256), so that small
# encoder inputs are averaged rather than sampled.
MIN_TRANSFORM_SIZE = 256

T = TypeVar("T")
# An aligned face and the reconstructions that it is compared with, [h, w, 3] uint8 each.
Compared = tuple[np.ndarray, list[np.ndarray]]


@dataclass(frozen=True)
class AlignSettings:
    """What :func:`prepare` needs of a run."""

    mode: str  # "face" or "none"
    faces: str  # "largest" or "all"
    height: int  # of the encoder's input
    width: int


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
        return [row(status=Status.OK, image_u8=_resize(picture, settings))]

    from pipeline import faces  # dlib, wanted by this mode alone

    # All faces want a search at every scale; the largest is found at the first that shows one.
    found = faces.detect(picture, every_scale=settings.faces == "all")
    if not found:
        return [row(status=Status.NO_FACE, error="no face was found", n_faces=0)]
    wanted = found if settings.faces == "all" else found[:1]
    return [
        _crop(picture, face, settings, functools.partial(row, face=i, n_faces=len(found)))
        for i, face in enumerate(wanted)
    ]


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
        quad = align.quad(face.landmarks)
        crop = align.crop(picture, quad, size, max(MIN_TRANSFORM_SIZE, size))
    except ValueError as error:
        return row(status=Status.ALIGN_ERROR, error=str(error))
    return row(status=Status.OK, quad=quad, image_u8=_resize(crop, settings))


def _prepare_all(samples: list[Sample], settings: AlignSettings) -> tuple[list[AlignedFace], float]:
    start = time.perf_counter()
    rows = [row for sample in samples for row in prepare(sample, settings)]
    return rows, time.perf_counter() - start


def _identity_all(compared: list[Compared]) -> tuple[list[list[float]], float]:
    from pipeline import faces

    start = time.perf_counter()
    return [faces.identities(a, b) for a, b in compared], time.perf_counter() - start


@functools.cache
def _remote(function: Callable) -> Any:
    import ray

    # A worker that a bad image or the memory monitor kills is tried once more elsewhere.
    return ray.remote(num_cpus=1, max_retries=1)(function)


def in_order(
    arguments: Iterable[T], submit: Callable[[T], Any], n_in_flight: int
) -> Iterator[tuple[T, Any]]:
    """Each argument with the result of its Ray task, in order, at most ``n_in_flight`` begun at once."""
    import ray

    waiting: deque[tuple[T, Any]] = deque()
    source = iter(arguments)
    while True:
        waiting += [(a, submit(a)) for a in islice(source, n_in_flight - len(waiting))]
        if not waiting:
            return
        argument, reference = waiting.popleft()
        yield argument, ray.get(reference)


def aligned(
    samples: Iterator[Sample], settings: AlignSettings, n_in_flight: int, clock: Stopwatch
) -> Iterator[AlignedFace]:
    """Rows of a shard's samples, in order; busy time is added to the stage "align"."""

    def submit(chunk: list[Sample]) -> Any:
        return _remote(_prepare_all).remote(chunk, settings)

    chunks = iter(lambda: list(islice(samples, SAMPLES_PER_TASK)), [])
    for _, (rows, busy) in in_order(chunks, submit, n_in_flight):
        clock.add("align", busy)
        yield from rows


def identity(compared: list[Compared]) -> Any:
    """Begin comparing faces; a reference to (cosines of each, busy time)."""
    return _remote(_identity_all).remote(compared)
