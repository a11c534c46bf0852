"""How long a source may keep its reader waiting: a least speed, and a time for all of it.

A timeout of the network alone is no bound: a server that sends a byte a minute never meets it.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from pipeline.errors import ShardError
from pipeline.storage.urls import redact

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Limits:
    """What is asked of a source. Only time in which its reader waits for it counts for the speed."""

    least_speed: float = 1024.0  # bytes per second, on the average of a window; 0: any
    window_s: float = 60.0
    total_s: float | None = None  # from the first byte to the last; None: any

    def by_block(self, n_bytes: int) -> Limits:
        """For a source of which nothing is known before a block of so many bytes is complete."""
        if not self.least_speed:
            return self
        return replace(self, window_s=max(self.window_s, n_bytes / self.least_speed))


@dataclass
class _Call:
    """Something that a thread does, and what came of it."""

    function: Callable[[], Any]
    done: threading.Event = field(default_factory=threading.Event)
    answer: Any = None
    error: BaseException | None = None


class Pace:
    """Reads from one source in a thread, and gives up on a source that is too slow.

    The thread is what makes it sure: no library has a timeout for everything that may take long in it.
    """

    def __init__(self, url: str, limits: Limits) -> None:
        self._url, self.limits = url, limits
        self._n_bytes, self._waited_s = 0, 0.0  # in this window
        self._begun = time.monotonic()
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def count(self, n_bytes: int) -> None:
        """Bytes have come; the thread says so, also in the midst of a call."""
        self._n_bytes += n_bytes

    def within(self, function: Callable[[], Answer]) -> Answer:
        """What a function of the source returns or raises.

        Raises:
            ShardError: it takes too long. The thread is left where it is; end what it waits for.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, daemon=True, name="source")
            self._thread.start()
        call = _Call(function)
        self._calls.put(call)
        is_done = False
        while not is_done:
            start = time.monotonic()
            is_done = call.done.wait(self._patience())
            self._waited_s += time.monotonic() - start
            self._require()
        if call.error is not None:
            raise call.error
        return call.answer

    def later(self, function: Callable[[], Any]) -> None:
        """Something for the thread to do once it is free; nobody waits for it."""
        if self._thread is None:
            function()
        else:
            self._calls.put(_Call(function))

    def end(self) -> None:
        """Let the thread go, after whatever it still does."""
        if self._thread is not None:
            self._calls.put(None)
            self._thread = None

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                call.answer = call.function()
            except BaseException as error:
                call.error = error
            call.done.set()

    def _patience(self) -> float | None:
        """Seconds until something may be too late."""
        limits = self.limits
        left = [limits.window_s - self._waited_s] if limits.least_speed else []
        if limits.total_s is not None:
            left.append(limits.total_s - (time.monotonic() - self._begun))
        return max(0.0, min(left)) if left else None

    def _require(self) -> None:
        limits = self.limits
        if limits.total_s is not None and time.monotonic() - self._begun > limits.total_s:
            raise ShardError(
                f"{redact(self._url)} was not read to its end within {limits.total_s:g} s; pass a longer "
                "--shard-timeout, or smaller shards"
            )
        if not limits.least_speed or self._waited_s < limits.window_s:
            return
        if self._n_bytes < limits.least_speed * limits.window_s:
            raise ShardError(
                f"{redact(self._url)} is too slow: {self._n_bytes} bytes came in {self._waited_s:.0f} s; if "
                f"it is meant to be, pass a --least-speed below {limits.least_speed:g} bytes per second"
            )
        self._n_bytes, self._waited_s = 0, 0.0
