"""Ctrl-C and SIGTERM while a training runs: obeyed between two batches, once what was learned is saved."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import Any

from generators.training.parallel import n_workers

SIGNALS = (signal.SIGINT, signal.SIGTERM)
FIRST = b"\nstopping after this batch; a second signal stops at once\n"


class Interrupted(BaseException):
    """A signal, where the weights are whole; no error, so nothing on the way takes it for one."""


class Interruption:
    """A block of code that a signal leaves only where it may be left, and saves first.

    A second signal is obeyed at once. Nothing changes in a thread other than the main one, where Python
    handles no signals, and for one of several workers, which cannot save without the others.
    """

    def __init__(self, save: Callable[[], None]) -> None:
        """
        Args:
            save: keeps what was learned; called once the block is left, before the signal is obeyed.
        """
        self._save = save
        self._before: dict[signal.Signals, Any] = {}
        self._signal: int | None = None  # the first that came
        self._is_held_back = False

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread() and n_workers() == 1:
            for number in SIGNALS:
                if callable(signal.getsignal(number)):  # one that is ignored stays so
                    self._before[number] = signal.signal(number, self._came)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is Interrupted:
                self._save()
        finally:
            self._restore()
        if self._signal is not None and kind in (None, Interrupted):
            signal.raise_signal(self._signal)

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """Code in which weights are not whole: a signal waits for its end."""
        self._is_held_back = True
        yield
        self._is_held_back = False
        if self._signal is not None:
            raise Interrupted

    def _came(self, number: int, _: FrameType | None) -> None:
        if self._signal is not None:
            self._restore()
            signal.raise_signal(number)
            return
        self._signal = number
        if not self._is_held_back:
            raise Interrupted
        with suppress(OSError):
            os.write(2, FIRST)  # print is not safe here: it may be what was interrupted

    def _restore(self) -> None:
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, handler)
