"""What the queue knows of its workers: they are given tasks, and answer what became of them.

Two kinds of pools: actors of a Ray cluster (`actors`), and one worker in this process (`local`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pipeline.engine.progress import ActiveShard
from pipeline.engine.quarantine import CrashSearch
from pipeline.records import Report, Task


@dataclass(frozen=True)
class Attempt:
    """A shard in the queue, and what became of earlier tries."""

    task: Task
    n_errors: int = 0  # answered with an error
    n_deaths: int = 0  # the worker died
    search: CrashSearch | None = None  # workers died at it: how the next one is to go about it
    not_before: float = 0.0  # on the monotonic clock


@dataclass(frozen=True)
class Ready:
    """A worker has loaded, and is idle."""

    worker: str


@dataclass(frozen=True)
class Done:
    """A shard is finished; its worker is idle."""

    attempt: Attempt
    report: Report


@dataclass(frozen=True)
class Failed:
    """A worker answered with an error, and is idle."""

    attempt: Attempt
    error: BaseException


@dataclass(frozen=True)
class Died:
    """A worker is gone; of one that was loading, ``attempt`` is None."""

    attempt: Attempt | None
    worker: str
    error: BaseException


Answer = Ready | Done | Failed | Died


class Metrics(Protocol):
    """Who is told what becomes of the queue."""

    def shard(self, outcome: str) -> None: ...
    def death(self) -> None: ...
    def state(self, n_left: int, n_loading: int, n_idle: int, n_busy: int) -> None: ...


class Pool(Protocol):
    """The workers of a run."""

    @property
    def metrics(self) -> Metrics: ...
    @property
    def n_idle(self) -> int: ...
    @property
    def n_loading(self) -> int: ...
    @property
    def n_busy(self) -> int: ...
    @property
    def n_most(self) -> int: ...  # workers alive at once so far

    def scale_up(self, n_wanted: int) -> None:
        """Start the workers that there is room for and that the queue has work for.

        Raises:
            ConfigError: there can be none.
        """
        ...

    def assign(self, attempt: Attempt) -> str:
        """Have an idle worker begin a shard; returns the worker's name."""
        ...

    def answers(self, timeout_s: float) -> Sequence[Answer]:
        """What has come; waits for the first of it, but no longer than that."""
        ...

    def abandon(self) -> list[Attempt]:
        """Expect no more answers; what the workers were at."""
        ...

    def n_rows_begun(self) -> int:
        """Rows of unfinished shards, as far as the workers have told."""
        ...

    def share_begun(self) -> float:
        """How many shards the rows of unfinished ones amount to, as far as the workers know."""
        ...

    def active(self) -> list[ActiveShard]:
        """What each busy worker is at."""
        ...
