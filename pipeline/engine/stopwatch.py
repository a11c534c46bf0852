"""Busy time by stage, and what it says of the device."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from typing import TypeVar

T = TypeVar("T")

WAIT = "wait"  # not busy: the device had nothing to do, for its input had not come
ON_DEVICE = ("invert", "refine", "score")
# A device that waits for less than this part of the time is itself what decides the speed.
HARDLY = 0.1


class Stopwatch:
    """Adds up seconds, of several threads: ``with clock("read"): ...``."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._lock = Lock()

    def add(self, stage: str, seconds: float) -> None:
        """Add seconds to a stage, from any thread."""
        with self._lock:
            self.seconds[stage] += seconds

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - start)

    def each(self, stage: str, source: Iterable[T]) -> Iterator[T]:
        """What a source gives; the time that it takes for it is added to a stage."""
        items = iter(source)
        while True:
            with self(stage):
                try:
                    item = next(items)
                except StopIteration:
                    return
            yield item


def waited(seconds: Mapping[str, float]) -> float | None:
    """The part of its time that the device waited for input; None where no device was timed."""
    busy = sum(seconds.get(stage, 0.0) for stage in ON_DEVICE)
    return seconds[WAIT] / (seconds[WAIT] + busy) if seconds.get(WAIT) and busy else None


def sentence(seconds: Mapping[str, float]) -> str | None:
    """How long the device waited and which stage decided the speed, for people; None as above."""
    part = waited(seconds)
    if part is None:
        return None
    return f"the device waited {part:.0%} of the time for input; {_slowest(seconds, part)}"


def _slowest(seconds: Mapping[str, float], part: float) -> str:
    busy = sum(seconds.get(stage, 0.0) for stage in ON_DEVICE)
    if part >= HARDLY:
        # Read in one thread; what is aligned in that time, is aligned by many.
        if seconds.get("read", 0.0) > (busy + seconds[WAIT]) / 2:
            return "reading the shards was slowest"
        return "decoding and alignment were slowest: more CPUs would make the run faster"
    if seconds.get("write", 0.0) > busy:
        return "writing was slowest"
    return "the model was slowest"
