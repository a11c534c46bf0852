"""Decoding, alignment and the chips of faces on CPU workers: in order, and bounded.

The work of one sample is a plain function (`align_sample`), free of Ray and torch; `engine/tasks.py` spreads
it over the CPUs of a cluster, or of this machine. dlib's models live in the worker process, loaded once.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from pipeline.clip_config import ClipConfig
from pipeline.engine.stopwatch import Stopwatch
from pipeline.engine.tasks import Crash, TaskMap, Tasks
from pipeline.faces.prepare import AlignSettings, align_sample, crop_followed, find_faces
from pipeline.faces.tracking import NOTHING
from pipeline.inversion import clips
from pipeline.inversion.clips import Placed, Seen
from pipeline.records import AlignedFace, Sample, Status

# Samples in one task: enough to hide Ray's overhead of a millisecond, few enough to spread a shard.
SAMPLES_PER_TASK = 4
ROWS_PER_TASK = 8  # whose chips are cut
# How libraries fail on a picture that they did not foresee. A missing package or file (ImportError, OSError)
# is no sample's fault.
UNFORESEEN = (ArithmeticError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)


def _prepare_all(
    samples: list[Sample], settings: AlignSettings
) -> tuple[list[list[AlignedFace]], float]:
    start = time.perf_counter()
    rows = [_prepare_any(sample, settings) for sample in samples]
    return rows, time.perf_counter() - start


def _prepare_any(sample: Sample, settings: AlignSettings) -> list[AlignedFace]:
    try:
        return align_sample(sample, settings)
    except UNFORESEEN as error:
        return [_crashed(sample, f"alignment failed: {type(error).__name__}: {error}"[:500])]


def _crashed(sample: Sample, error: str) -> AlignedFace:
    return AlignedFace(sample.index, sample.key, Status.CRASHED, error)


def _chips_all(
    items: list[list[np.ndarray]],
) -> tuple[list[list[np.ndarray | None] | Crash], float]:
    start = time.perf_counter()
    return [_chips_any(pictures) for pictures in items], time.perf_counter() - start


def _chips_any(pictures: list[np.ndarray]) -> list[np.ndarray | None] | Crash:
    from pipeline.faces import detection

    try:
        return [
            detection.chip_aligned(picture) if detection.shows_face(picture) else None
            for picture in pictures
        ]
    except UNFORESEEN as error:
        return Crash(f"identity failed: {type(error).__name__}: {error}"[:500])


def aligned(
    samples: Iterator[Sample],
    settings: AlignSettings,
    n_in_flight: int,
    clock: Stopwatch,
    tasks: Tasks,
) -> Iterator[AlignedFace]:
    """Rows of a shard's samples, in order; busy time is added to the stage "align".

    tasks: where they are made.

    Raises:
        ShardError: the cluster loses every node that a chunk of samples is sent to.
    """
    labour: TaskMap[Sample, list[AlignedFace]] = TaskMap(_prepare_all, tasks, (settings,))
    for sample, rows, busy in labour.map_ordered(samples, SAMPLES_PER_TASK, n_in_flight):
        clock.add("align", busy)
        if isinstance(rows, Crash):
            yield _crashed(sample, rows.error)
        else:
            yield from rows


def _find_all(samples: list[Sample]) -> tuple[list[Seen], float]:
    start = time.perf_counter()
    return [_find_any(sample) for sample in samples], time.perf_counter() - start


def _find_any(sample: Sample) -> Seen:
    try:
        return Seen(sample.index, *find_faces(sample))
    except UNFORESEEN as error:
        said = f"detection failed: {type(error).__name__}: {error}"[:500]
        return Seen(sample.index, NOTHING, _crashed(sample, said))


def _crop_all(placed: list[Placed], settings: AlignSettings) -> tuple[list[AlignedFace], float]:
    start = time.perf_counter()
    rows = [one.failure or _crop_any(one, settings) for one in placed]
    return rows, time.perf_counter() - start


def _crop_any(placed: Placed, settings: AlignSettings) -> AlignedFace:
    try:
        return crop_followed(placed.sample, placed.n_faces, placed.position, settings)
    except UNFORESEEN as error:
        said = f"alignment failed: {type(error).__name__}: {error}"[:500]
        return _crashed(placed.sample, said)


def followed(
    samples: Iterator[Sample],
    settings: AlignSettings,
    config: ClipConfig,
    n_in_flight: int,
    clock: Stopwatch,
    tasks: Tasks,
) -> Iterator[AlignedFace]:
    """As :func:`aligned`, of frames of clips: one face is followed, and cropped where it is on the average.

    Frames are decoded twice, to be searched and to be cut: between the two wait the frames that following
    and averaging look ahead, as the files that they are and not as pixels.

    Raises:
        ShardError: the cluster loses every node that a chunk of samples is sent to.
    """

    def seen() -> Iterator[tuple[Sample, Seen]]:
        search: TaskMap[Sample, Seen] = TaskMap(_find_all, tasks)
        for sample, found, busy in search.map_ordered(samples, SAMPLES_PER_TASK, n_in_flight):
            clock.add("align", busy)
            if isinstance(found, Crash):
                found = Seen(sample.index, NOTHING, _crashed(sample, found.error))
            yield sample, found

    placed = clips.placed(seen(), config)
    cut: TaskMap[Placed, AlignedFace] = TaskMap(_crop_all, tasks, (settings,))
    for one, row, busy in cut.map_ordered(placed, SAMPLES_PER_TASK, n_in_flight):
        clock.add("align", busy)
        yield _crashed(one.sample, row.error) if isinstance(row, Crash) else row


def warm_up(n_tasks: int, tasks: Tasks) -> None:
    """Have CPU workers start and load dlib's models while the caller loads its own; waits for nothing."""
    for _ in range(n_tasks):
        tasks.submit(_load_models)


def _load_models() -> None:
    from pipeline.faces import detection

    detection.load()


class Chips:
    """Chips of some rows' reconstructions, being cut by CPU workers."""

    def __init__(self, pictures: list[list[np.ndarray]], tasks: Tasks) -> None:
        """pictures: of each row its reconstructions at the steps that are measured, [h, w, 3] uint8."""
        chunks = [pictures[i : i + ROWS_PER_TASK] for i in range(0, len(pictures), ROWS_PER_TASK)]
        self._cutter: TaskMap[list[np.ndarray], list[np.ndarray | None]]
        self._cutter = TaskMap(_chips_all, tasks)
        self._chunks = [(self._cutter.submit(chunk), chunk) for chunk in chunks]

    def cut(self) -> tuple[list[list[np.ndarray | None] | Crash], float]:
        """Of each row its chips (None where no face can be seen), once all are there, and busy seconds.

        Raises:
            ShardError: the cluster loses every node that a chunk is sent to.
        """
        answers = [self._cutter.result(reference, chunk) for reference, chunk in self._chunks]
        return [each for results, _ in answers for each in results], sum(
            busy for _, busy in answers
        )
