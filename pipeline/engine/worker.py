"""A worker: takes a task, reads its source, writes rows, checks the source, commits the file, counts.

All kinds of workers share this; what they read and how rows come of it is their own (:class:`Work`).
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from threading import Event
from typing import Any, Protocol

import pyarrow as pa
import torch

from pipeline.config import fingerprint
from pipeline.engine.host import Host
from pipeline.engine.quarantine import CrashRecorder, CrashSearch
from pipeline.engine.stopwatch import Stopwatch
from pipeline.errors import ConfigError, OutOfMemory, ShardError
from pipeline.latents.schema import Row
from pipeline.latents.writer import ShardWriter
from pipeline.records import Report, Status, Task
from pipeline.shards import inputs
from pipeline.storage import redact


@dataclass(frozen=True, kw_only=True)
class WorkerConfig(ABC):
    """What every worker is given; it travels to the worker's process."""

    out: str  # folder or object-store prefix
    settings: Mapping[str, Any]  # settings and checkpoint hashes
    n_in_flight: int = 0  # CPU tasks of one shard submitted at once; set from the cluster's size
    n_threads: int = 0  # of torch on the CPU; set from the cluster's size

    @property
    @abstractmethod
    def worker_class(self) -> type[Worker]:
        """The kind of worker that takes this."""


class Work(Protocol):
    """One task under way: a source that is being read, and the rows that come of it."""

    @property
    def shard(self) -> str: ...  # URL of the shard that the rows come from
    @property
    def columns(self) -> pa.Schema: ...
    @property
    def n_samples(self) -> int: ...  # of the shard, read so far

    def batches(self) -> Generator[Sequence[Row] | pa.RecordBatch, None, None]:
        """The rows, in the order of the samples; ends when every one that was read has come."""
        ...

    def footer(self) -> dict[str, Any]:
        """What a reader of the file needs to know beyond what every worker writes. No clock, no host: the
        same for a second run."""
        ...


class Worker(ABC):
    """One task at a time. Nothing is loaded before :meth:`load`."""

    def __init__(self, config: WorkerConfig, host: Host | None = None) -> None:
        """host: where it runs; None: this is a Ray actor."""
        self._config = config
        self.host = _on_ray() if host is None else host
        self._is_stopped = Event()
        self._n_rows = self._n_worse = 0

    def load(self) -> str:
        """Load what the tasks need. Apart from the constructor, whose errors Ray reports as a death.

        Returns the worker's name: its node, GPU and process.

        Raises:
            ConfigError, CheckpointError: this node has another file than the driver, or none.
        """
        torch.set_num_threads(self._config.n_threads)
        self.load_models()
        return self.host.worker_name()

    @abstractmethod
    def load_models(self) -> None:
        """Load what serves all tasks."""

    @abstractmethod
    def start(
        self, task: Task, stopwatch: Stopwatch, recorder: CrashRecorder | None
    ) -> AbstractContextManager[Work]:
        """Open the source of a task.

        recorder: of a task that workers died at: notes each step before it is taken.

        Raises:
            ShardError: it cannot be read.
        """

    def execution(self) -> str:
        """How the model runs, where there was a choice."""
        return ""

    def n_rows(self) -> int:
        """Rows of the current task so far, for the progress bar."""
        return self._n_rows

    def stop(self) -> None:
        """Have the current task end at its next batch, with an error; from another thread."""
        self._is_stopped.set()

    def share_done(self) -> float:
        """How much of the current task its rows so far are, 0 to 1; 0 where that is not known."""
        return 0.0

    def reached(self) -> tuple[int, float]:
        """Both, for the progress bar."""
        return self.n_rows(), self.share_done()

    def process(self, task: Task, search: CrashSearch | None = None) -> Report:
        """Do one task and commit its file.

        search: of a task that workers died at: what is known about the sample that did it.

        Raises:
            ShardError: the source cannot be read to its end, or the file cannot be written; nothing was.
            OutOfMemory: the batch is too large.
            CheckpointError: a file that the task names is not the one that it needs.
        """
        start = time.monotonic()
        try:
            report = self._process(task, search)
        except OutOfMemory:
            raise
        except ConfigError as error:
            # A store that does not answer one node now may answer the next one later.
            raise ShardError(str(error)) from None
        except RuntimeError as error:
            if not _device_works():
                self.host.leave(error)
            raise
        self.host.count(report, time.monotonic() - start)
        return report

    def _process(self, task: Task, search: CrashSearch | None) -> Report:
        self._n_rows = self._n_worse = 0
        stopwatch = Stopwatch()
        recorder = None if search is None else CrashRecorder(self._config.out, task.output, search)
        with self.start(task, stopwatch, recorder) as work:
            before = inputs.state(task.source)
            writer = ShardWriter(self._config.out, task.output, work.shard, work.columns)
            try:
                counts = self._write(work, writer, stopwatch)
                same = inputs.version(task.source, retry_unreachable=True) == task.version
                if not same or inputs.state(task.source) != before:
                    raise ShardError(
                        f"{redact(task.source)} has changed since the run began; run again"
                    )
                if counts[Status.CRASHED]:
                    _require_no_worse(writer.standing(), counts)
                with stopwatch("write"):
                    writer.commit(self._footer(work, task, counts))
            except BaseException:
                writer.abandon()
                raise
        seconds = dict(stopwatch.seconds)
        how = self.host.worker_name(), self.execution(), self._n_worse
        return Report(task, work.n_samples, dict(counts), seconds, *how)

    def _write(self, work: Work, writer: ShardWriter, stopwatch: Stopwatch) -> Counter[str]:
        """Write every row; returns how many have which status."""
        counts = Counter[str]()
        with closing(work.batches()) as batches:
            for rows in batches:
                if self._is_stopped.is_set():
                    raise InterruptedError("the run was stopped")
                with stopwatch("write"):
                    writer.add(rows)
                counts.update(_statuses(rows))
                if not isinstance(rows, pa.RecordBatch):
                    self._n_worse += sum(row.is_worse for row in rows)
                self._n_rows = writer.n_rows
        return counts

    def _footer(self, work: Work, task: Task, counts: Counter[str]) -> dict[str, Any]:
        return {
            **work.footer(),
            "fingerprint": fingerprint(self._config.settings),
            "identity": dict(self._config.settings),
            "input_identity": task.version,
            "n_samples": work.n_samples,
            "n_by_status": dict(sorted(counts.items())),
            "n_worse": self._n_worse,
        }


def _statuses(rows: Sequence[Row] | pa.RecordBatch) -> list[str]:
    if isinstance(rows, pa.RecordBatch):
        return rows.column("status").to_pylist()
    return [str(row.status) for row in rows]


def _require_no_worse(before: Mapping[str, Any], counts: Mapping[str, int]) -> None:
    """A retry on a machine that is short of memory must not replace good rows by crashed ones."""
    n_before = before.get("n_by_status", {}).get(Status.CRASHED, 0)
    if before and counts[Status.CRASHED] > n_before:
        raise ShardError(
            f"{counts[Status.CRASHED]} samples crashed, {n_before} in the file that is there, which stays"
        )


def _device_works() -> bool:
    """Whether the GPU takes work; where there is none, nothing of it can be broken."""
    if torch.cuda.is_available():
        try:
            torch.cuda.synchronize()
        except RuntimeError:
            return False
    return True


def _on_ray() -> Host:
    from pipeline.engine.ray_host import RayHost

    return RayHost()
