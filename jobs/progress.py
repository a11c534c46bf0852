"""What goes on in a run, while it goes on: a bar on a terminal, lines in a log file, JSON, or nothing."""

from __future__ import annotations

import logging
import sys
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from jobs.printing import clock, emit, manner, say, speed

if TYPE_CHECKING:
    from pipeline.engine.driver import Summary

TICK_S = 1.0  # the clock goes on though nothing finishes
LINE_S = 30.0  # between two lines where no terminal shows a bar
BEGUN = 0.9  # of a shard at most, until it is done


class Display:
    """Called by the driver with what was done so far, and told the events of the run; use as a context."""

    def __init__(self, n_shards: int, doing: str = "inverting") -> None:
        self.n_shards, self.phase, self._doing = n_shards, "starting", doing
        self.n_done, self.n_rows, self.n_failed = 0.0, 0, 0
        self._start = self._since = time.monotonic()
        self._stop = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="clock", daemon=True)
        self._handler = _Handler(self)

    def __enter__(self) -> Display:
        logger = logging.getLogger("restyle")
        logger.addHandler(self._handler)
        logger.setLevel(logging.DEBUG)
        self._ticker.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._stop.set()
        self._ticker.join()
        logging.getLogger("restyle").removeHandler(self._handler)
        self.close()

    def __call__(self, summary: Summary, n_rows_begun: int) -> None:
        if not (summary.n_rows or n_rows_begun) and self.phase != self._doing:
            self._since = time.monotonic()  # Ray's start and the model's are no part of the speed
        self.n_rows = summary.n_rows + n_rows_begun
        self.n_failed = summary.n_rows - summary.n_by_status["ok"]
        n_ended, begun = summary.n_shards + len(summary.failures), summary.begun
        if not begun and n_rows_begun and summary.n_shards:
            # By its rows, as soon as a finished one tells how many to expect.
            begun = min(BEGUN, n_rows_begun / max(1, summary.n_rows / summary.n_shards))
        self.n_done = min(n_ended + begun, self.n_shards)
        self.changed()

    def heard(self, facts: dict[str, Any]) -> None:
        """An event of the run: which phase it is in."""
        address = facts.get("address")
        phases = {
            "ray_starting": "starting Ray" if address == "local" else f"joining Ray at {address}",
            "run_started": "starting workers",
            "worker_ready": self._doing,
            "ray_stopping": "stopping Ray",
        }
        phase = phases.get(facts["event"], self.phase)
        if phase != self.phase:
            self.phase = phase
            if phase == self._doing and not self.n_rows:
                self._since = time.monotonic()
            self.phase_changed()

    @property
    def elapsed_s(self) -> float:
        """Since the command began with it."""
        return time.monotonic() - self._start

    @property
    def working_s(self) -> float:
        """Since the first worker was ready."""
        return time.monotonic() - self._since

    @property
    def left_s(self) -> float | None:
        """By what is done so far; None before anything is."""
        if not self.n_done:
            return None
        return self.working_s * (self.n_shards - self.n_done) / self.n_done

    def told(self) -> str:
        """The numbers in words."""
        if not self.n_rows:
            return f"{clock(self.elapsed_s)} elapsed"
        left = "" if self.left_s is None else f", about {clock(self.left_s)} left"
        rate = speed(self.n_rows, self.working_s)
        rows = f"{self.n_rows:,} rows, {rate}, {self.n_failed:,} failed"
        return f"{clock(self.elapsed_s)} elapsed{left}, {rows}"

    def _tick(self) -> None:
        while not self._stop.wait(TICK_S):
            try:
                self.ticked()
            except (
                Exception
            ):  # nobody reads any more: the command's own thread meets that, too, and ends
                return

    def changed(self) -> None:
        """There are new numbers."""

    def phase_changed(self) -> None:
        """There is a new phase."""

    def ticked(self) -> None:
        """A second has passed."""

    def close(self) -> None:
        """It is over."""


class _Bar(Display):
    """On a terminal."""

    def __init__(self, n_shards: int, doing: str) -> None:
        super().__init__(n_shards, doing)
        self._bar = tqdm(
            total=n_shards,
            dynamic_ncols=True,
            bar_format="{desc} {bar:24} {n:.1f}/{total} shards{postfix}",
            desc=self.phase,
        )
        self._last = ""

    def changed(self) -> None:
        if (text := self.told()) != self._last:
            self._last = text
            self.ticked()

    def phase_changed(self) -> None:
        self.ticked()

    def ticked(self) -> None:
        self._bar.n = self.n_done
        self._bar.desc, self._bar.postfix = self.phase, self.told()
        self._bar.refresh()

    def close(self) -> None:
        self._bar.close()


class _Lines(Display):
    """In a file or a pipe, where a bar would be a line a second."""

    _next = LINE_S

    def phase_changed(self) -> None:
        say(self.phase, err=True)

    def ticked(self) -> None:
        if self.elapsed_s >= self._next:
            self._next = self.elapsed_s + LINE_S
            done = f"{self.n_done:.1f} of {self.n_shards} shards"
            say(f"{self.phase}: {done}, {self.told()}", err=True)


class _Json(Display):
    """The same as objects, and each event of the run."""

    def heard(self, facts: dict[str, Any]) -> None:
        super().heard(facts)
        emit(facts)

    def ticked(self) -> None:
        left = self.left_s
        emit(
            {
                "event": "progress",
                "phase": self.phase,
                "n_shards": self.n_shards,
                "n_done": round(self.n_done, 3),
                "n_rows": self.n_rows,
                "n_failed_rows": self.n_failed,
                "rows_per_s": round(self.n_rows / max(self.working_s, 1e-9), 3),
                "seconds": round(self.elapsed_s, 1),
                "seconds_left": None if left is None else round(left, 1),
            }
        )


class _Handler(logging.Handler):
    """Hands events on, and prints them as lines where the log level asks for it."""

    def __init__(self, display: Display) -> None:
        super().__init__(logging.DEBUG)
        self._display = display

    def emit(self, record: logging.LogRecord) -> None:
        facts: dict[str, Any] | None = getattr(record, "facts", None)
        if facts is None:
            return
        self._display.heard(facts)
        if record.levelno >= manner.log_level:
            told = {k: v for k, v in facts.items() if k not in ("event", "time", "run") and v}
            words = " ".join(f"{name}={value}" for name, value in told.items())
            with tqdm.external_write_mode(file=sys.stderr):
                say(f"{time.strftime('%H:%M:%S')} {facts['event']} {words}".rstrip(), err=True)


def display(n_shards: int, doing: str = "inverting") -> Display:
    """What the command's options and its terminal ask for."""
    if manner.as_json:
        return _Json(n_shards, doing)
    if manner.quiet or not n_shards:
        return Display(n_shards, doing)
    return (_Bar if sys.stderr.isatty() else _Lines)(n_shards, doing)
