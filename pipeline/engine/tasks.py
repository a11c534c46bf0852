"""Items to CPU workers in chunks: a worker's death costs nothing, and an item that kills workers is found.

Ray's own retries are switched off: it runs a task that is out of memory again for ever, and of a chunk
that dies it cannot tell which item did it.
"""

from __future__ import annotations

import functools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, TypeVar

from pipeline.errors import ShardError
from pipeline.records import CRASHED_ERROR

# Deaths of workers at one item alone, after two at its chunk, that make it the cause.
N_DEATHS_ALONE = 2
# Nodes lost at one chunk before the shard is given back to the driver.
N_LOST = 10
PAUSE_S = 0.5  # before a task is sent again: a dying node may go meanwhile
# After Ray has killed a worker because its node's memory is short, whoever is at fault.
MEMORY_PAUSE_S = 5.0

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Crash:
    """Stands where the result of an item would be that kills every worker, or fails unforeseen."""

    error: str = CRASHED_ERROR


@dataclass(frozen=True)
class RemoteMap(Generic[T, R]):
    """A plain function of many items, to be run on CPU workers."""

    # (items, *arguments) -> (results, busy seconds)
    function: Callable[..., tuple[Sequence[R | Crash], float]]
    arguments: tuple[Any, ...] = ()

    def submit(self, items: Sequence[T]) -> Any:
        """Send a chunk away; a reference for :meth:`finish`."""
        return _remote(self.function).remote(list(items), *self.arguments)

    def result(self, reference: Any, items: Sequence[T]) -> tuple[list[R | Crash], float]:
        """Results of a chunk, one an item, and busy seconds.

        Raises:
            ShardError: the cluster loses every node that it is sent to.
        """
        answer = _answer(reference)
        if answer is None:
            # Workers die for many reasons; most often the chunk itself is innocent.
            answer = self._again(items)
        if answer is not None:
            return answer
        results: list[R | Crash] = []
        busy = 0.0
        for item in items:
            tries = (self._again([item]) for _ in range(N_DEATHS_ALONE))
            first = next((answer for answer in tries if answer is not None), None)
            results += [Crash()] if first is None else first[0]
            busy += first[1] if first else 0.0
        return results, busy

    def _again(self, items: Sequence[T]) -> Any:
        time.sleep(PAUSE_S)
        return _answer(self.submit(items), lambda: self.submit(items))

    def map_ordered(
        self, items: Iterable[T], chunk_size: int, n_in_flight: int
    ) -> Iterator[tuple[T, R | Crash, float]]:
        """Each item with its result and its part of the busy time; at most ``n_in_flight`` chunks begun."""
        source = iter(items)
        chunks = iter(lambda: list(islice(source, chunk_size)), [])
        waiting: deque[tuple[list[T], Any]] = deque()
        while True:
            for chunk in islice(chunks, n_in_flight - len(waiting)):
                waiting.append((chunk, self.submit(chunk)))
            if not waiting:
                return
            chunk, reference = waiting.popleft()
            results, busy = self.result(reference, chunk)
            for item, result in zip(chunk, results, strict=True):
                yield item, result, busy / len(chunk)


@dataclass(frozen=True)
class LocalMap(Generic[T, R]):
    """The same in this process, without Ray: a chunk is done when its result is asked for."""

    function: Callable[..., tuple[Sequence[R | Crash], float]]
    arguments: tuple[Any, ...] = ()

    def submit(self, items: Sequence[T]) -> Any:
        """Nothing is sent anywhere; the chunk itself stands for its result."""
        return items

    def result(self, reference: Any, items: Sequence[T]) -> tuple[list[R | Crash], float]:
        """Results of a chunk, one an item, and busy seconds. What kills a worker kills this process."""
        results, busy = self.function(items, *self.arguments)
        return list(results), busy


@functools.cache
def _remote(function: Callable) -> Any:
    import ray

    return ray.remote(num_cpus=1, max_retries=0)(function)


def _answer(reference: Any, resend: Callable[[], Any] | None = None) -> Any:
    """The answer of a task, None where its worker died. A node that goes away is nobody's fault.

    Raises:
        ShardError: the cluster lost the task's node over and over.
    """
    import ray
    from ray import exceptions

    lost = (exceptions.NodeDiedError, exceptions.ObjectLostError, exceptions.LocalRayletDiedError)
    for _ in range(N_LOST):
        try:
            return ray.get(reference)
        except exceptions.WorkerCrashedError:
            return None
        except exceptions.OutOfMemoryError:
            time.sleep(MEMORY_PAUSE_S)
            return None
        except lost:
            if resend is None:
                return None
            time.sleep(PAUSE_S)
            reference = resend()
    raise ShardError(f"the cluster lost {N_LOST} nodes that worked on one chunk of images")
