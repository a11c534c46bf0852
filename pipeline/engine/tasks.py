"""Items to CPU workers in chunks: a worker's death costs nothing, and an item that kills workers is found."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, Protocol, TypeVar

from pipeline.records import CRASHED_ERROR

# Deaths of workers at one item alone, after two at its chunk, that make it the cause.
N_DEATHS_ALONE = 2
PAUSE_S = 0.5  # before a task is sent again: a dying node may go meanwhile

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Crash:
    """Stands where the result of an item would be that kills every worker, or fails unforeseen."""

    error: str = CRASHED_ERROR


class Tasks(Protocol):
    """Where plain functions run: on Ray (`ray_tasks`), in other processes (`processes`), or here."""

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Send a call away; a reference to its answer."""
        ...

    def answer(self, reference: Any) -> Any:
        """The answer; None where the worker died that was at it."""
        ...

    def again(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The same of a call that is sent now, because a worker died at it."""
        ...


class InThisProcess:
    """A call is made when its answer is asked for. What kills a worker kills this process."""

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Nothing is sent anywhere; the call itself stands for its answer."""
        return function, arguments

    def answer(self, reference: Any) -> Any:
        """What the call returns."""
        function, arguments = reference
        return function(*arguments)

    def again(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What the call returns."""
        return function(*arguments)


@dataclass(frozen=True)
class TaskMap(Generic[T, R]):
    """A plain function of many items, to be run on CPU workers."""

    # (items, *arguments) -> (results, busy seconds)
    function: Callable[..., tuple[Sequence[R | Crash], float]]
    tasks: Tasks
    arguments: tuple[Any, ...] = ()

    def submit(self, items: Sequence[T]) -> Any:
        """Send a chunk away; a reference for :meth:`result`."""
        return self.tasks.submit(self.function, list(items), *self.arguments)

    def result(self, reference: Any, items: Sequence[T]) -> tuple[list[R | Crash], float]:
        """Results of a chunk, one an item, and busy seconds.

        Raises:
            ShardError: the cluster loses every node that it is sent to.
        """
        answer = self.tasks.answer(reference)
        if answer is None:
            # Workers die for many reasons; most often the chunk itself is innocent.
            answer = self._again(items)
        if answer is not None:
            results, busy = answer
            return list(results), busy
        found: list[R | Crash] = []
        busy = 0.0
        for item in items:
            tries = (self._again([item]) for _ in range(N_DEATHS_ALONE))
            first = next((answer for answer in tries if answer is not None), None)
            found += [Crash()] if first is None else first[0]
            busy += first[1] if first else 0.0
        return found, busy

    def _again(self, items: Sequence[T]) -> Any:
        time.sleep(PAUSE_S)
        return self.tasks.again(self.function, list(items), *self.arguments)

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
