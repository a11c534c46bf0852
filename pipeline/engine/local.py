"""A run without Ray: one worker in a thread of this process, its CPU tasks in processes beside it.

What kills a CPU worker is survived as on Ray. What kills the worker kills the run, which the same command
continues: on Ray, where nobody says otherwise (`run.executor_for`).
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import NoReturn

import torch

from pipeline.engine.pool import Answer, Attempt, Died, Done, Failed, Ready
from pipeline.engine.processes import ProcessTasks
from pipeline.engine.progress import ActiveShard
from pipeline.engine.tasks import Tasks
from pipeline.engine.worker import Worker, WorkerConfig
from pipeline.errors import ConfigError
from pipeline.records import Report
from pipeline.storage import redact

# Seconds in which a worker that is stopped may end by itself; its model may be long at one batch.
STOP_S = 0.5
QUOTAS = (  # of a container: files whose numbers are microseconds of work, in so many microseconds
    ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
    ("/sys/fs/cgroup/cpu.max",),
)


def n_cpus() -> int:
    """CPUs of this machine or container, counted as Ray does: torch's threads show in the last bits."""
    n = os.cpu_count() or 1
    for paths in QUOTAS:
        with suppress(OSError, ValueError):  # no such limit, or "max"
            quota, period = map(int, " ".join(Path(p).read_text() for p in paths).split())
            if quota > 0 and period > 0:
                return max(1, quota // period)
    return n


class LocalHost:
    """A worker's place in this process."""

    def __init__(self, tasks: Tasks, gpus_per_actor: float | None = None) -> None:
        self.tasks = tasks
        self._share = min(1.0, gpus_per_actor or 1.0)

    def worker_name(self) -> str:
        """Machine, GPU and process."""
        gpu = "0" if torch.cuda.is_available() else "none"
        return f"{socket.gethostname()} gpu {gpu} pid {os.getpid()}"

    def gpu_share(self) -> float:
        """The part of a GPU that the worker may fill."""
        return self._share

    def count(self, report: Report, seconds: float) -> None:
        """Nobody watches."""

    def leave(self, error: BaseException) -> NoReturn:
        """A GPU that is broken for this process ends the run."""
        raise OutOfOrder(
            f"the GPU answers this process no more ({' '.join(str(error).split())[:200]}); run the same "
            "command again, which continues"
        ) from None


class OutOfOrder(ConfigError):
    """No retry in this process will help."""


class NoMetrics:
    """Takes the place of Ray's metrics."""

    def shard(self, outcome: str) -> None:
        """Nobody watches."""

    def death(self) -> None:
        """Nobody watches."""

    def state(self, n_left: int, n_loading: int, n_idle: int, n_busy: int) -> None:
        """Nobody watches."""


class LocalPool:
    """One worker. Use as a context, which leaves no process and no thread behind.

    But a thread whose model is at a batch when a run is stopped: it ends with the process.
    """

    def __init__(self, config: WorkerConfig, gpus_per_actor: float | None = None) -> None:
        n = n_cpus()
        self._config = replace(config, n_in_flight=2 * max(2, n), n_threads=config.n_threads or n)
        self._share, self._tasks = gpus_per_actor, ProcessTasks(n)
        self._given: SimpleQueue[Attempt | None] = SimpleQueue()
        self._answers: SimpleQueue[Answer] = SimpleQueue()
        self._worker: Worker | None = None
        self._thread: Thread | None = None
        self._name = ""
        self._at: tuple[Attempt, float] | None = None  # and since when, on the monotonic clock
        self.metrics = NoMetrics()
        self.n_idle = self.n_loading = self.n_most = 0

    @property
    def n_busy(self) -> int:
        return 0 if self._at is None else 1

    def __enter__(self) -> LocalPool:
        self._n_threads = torch.get_num_threads()
        return self

    def __exit__(self, *_: object) -> None:
        if self._worker is not None:
            self._worker.stop()
        self._given.put(None)
        self._tasks.__exit__()
        if self._thread is not None:
            self._thread.join(STOP_S)
        torch.set_num_threads(self._n_threads)

    def scale_up(self, n_wanted: int) -> None:
        """Start the worker, unless it is there."""
        if self.n_idle or self.n_loading or self.n_busy or not n_wanted:
            return
        host = LocalHost(self._tasks, self._share)
        self._worker = self._config.worker_class(self._config, host)
        self._thread = Thread(
            target=self._work, args=(self._worker,), name="restyle worker", daemon=True
        )
        self._thread.start()
        self.n_loading = self.n_most = 1

    def _work(self, worker: Worker) -> None:
        try:
            self._answers.put(Ready(worker.load()))
        except BaseException as error:
            self._answers.put(Died(None, "", _bare(error)))
            return
        while (attempt := self._given.get()) is not None:
            try:
                answer: Answer = Done(attempt, worker.process(attempt.task, attempt.search))
            except BaseException as error:  # those of Rust libraries, too, are no Exceptions
                answer = Failed(attempt, _bare(error))
            self._answers.put(answer)

    def assign(self, attempt: Attempt) -> str:
        """Have the worker begin a shard; returns its name."""
        self.n_idle, self._at = 0, (attempt, time.monotonic())
        self._given.put(attempt)
        return self._name

    def answers(self, timeout_s: float) -> list[Answer]:
        """What the worker says, if it says something soon."""
        try:
            answer = self._answers.get(timeout=timeout_s)
        except Empty:
            return []
        self._at, self.n_loading = None, 0
        self.n_idle = 0 if isinstance(answer, Died) else 1
        if isinstance(answer, Ready):
            self._name = answer.worker
        return [answer]

    def abandon(self) -> list[Attempt]:
        """What the worker was at."""
        attempts = [] if self._at is None else [self._at[0]]
        self._at = None
        return attempts

    def n_rows_begun(self) -> int:
        """Rows of the shard that is not finished."""
        return 0 if self._at is None or self._worker is None else self._worker.n_rows()

    def share_begun(self) -> float:
        """How much of that shard they are, as far as is known."""
        return 0.0 if self._at is None or self._worker is None else self._worker.share_done()

    def active(self) -> list[ActiveShard]:
        """What the worker is at."""
        if self._at is None:
            return []
        attempt, since = self._at
        seconds = round(time.monotonic() - since, 1)
        shard = redact(attempt.task.source)
        return [ActiveShard(shard, self._name, self.n_rows_begun(), seconds)]


def _bare(error: BaseException) -> BaseException:
    """Without the frames that it came through, which hold the tensors of the attempt."""
    return error.with_traceback(None)
