"""The queue: shards to workers, dead workers replaced, failures retried, growth with the cluster.

Workers are never trusted with the state of a run: what is done is what lies in the output folder. A shard
that two of them finish is written twice with the same bytes.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from generators import CheckpointError
from pipeline.engine import quarantine
from pipeline.engine.pool import Answer, Attempt, Died, Done, Failed, Pool, Ready
from pipeline.engine.progress import MAX_LISTED, RunLog
from pipeline.engine.quarantine import CrashSearch
from pipeline.errors import ConfigError
from pipeline.records import Report, Task
from pipeline.storage import redact
from pipeline.storage.urls import redact_text

POLL_S = 0.25  # how often progress is asked for
RETRY_BASE_S = 0.5  # wait before the second try; doubled for each further one
# Deaths for each worker, with no shard finished between them, after which a run is given up.
DEATHS_PER_WORKER = 3


@dataclass
class Summary:
    """What a run did, added up."""

    n_shards: int = 0
    n_samples: int = 0
    n_by_status: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)  # busy time by stage
    workers: Counter[str] = field(default_factory=Counter)  # shards by worker
    executions: Counter[str] = field(default_factory=Counter)  # shards by how the model ran
    n_worse: int = 0  # rows that ended clearly above the error of their best step
    begun: float = 0.0  # how many shards the rows of unfinished ones amount to, as far as is known
    n_retries: int = 0
    n_deaths: int = 0  # of workers
    failures: list[tuple[Task, str]] = field(default_factory=list)

    def add(self, report: Report) -> None:
        """Count a finished shard."""
        self.n_shards += 1
        self.n_samples += report.n_samples
        self.n_worse += report.n_worse
        self.n_by_status.update(report.n_by_status)
        self.seconds.update(report.seconds)
        self.workers[report.worker] += 1
        if report.execution:
            self.executions[report.execution] += 1

    @property
    def n_rows(self) -> int:
        return sum(self.n_by_status.values())


# Called with the summary so far and the rows of unfinished shards.
Progress = Callable[[Summary, int], None]


def run(
    tasks: Sequence[Task],
    pool: Pool,
    out: str,
    n_attempts: int,
    progress: Progress,
    log: RunLog | None = None,
) -> Summary:
    """Invert, or edit, every shard.

    Args:
        pool: who does it.
        out: where they write.
        n_attempts: tries before a shard is given up.
        log: where what happens is written down.

    Shards that could not be finished are in the summary's ``failures``.

    Raises:
        ConfigError, CheckpointError: something that no retry mends (out of memory, other weights on a
            node, the cluster's head is gone).
    """
    work = _Run(tasks, pool, out, n_attempts, log)
    while work.goes_on:
        work.step()
        progress(work.summary, work.n_rows_begun)
    work.end()
    return work.summary


class _Run:
    """The queue and what happens to it."""

    def __init__(
        self, tasks: Sequence[Task], pool: Pool, out: str, n_attempts: int, log: RunLog | None
    ) -> None:
        self._pool, self._out, self._n_attempts, self._run_log = pool, out, n_attempts, log
        self._queue = deque(Attempt(task) for task in tasks)
        self._last_error = ""
        self._n_deaths = 0  # in a row, with no shard finished between them
        self.summary = Summary()
        self.n_rows_begun = 0

    @property
    def goes_on(self) -> bool:
        return bool(self._queue or self._pool.n_busy)

    @property
    def _is_exhausted(self) -> bool:
        """Whether all workers died several times over: then the cause is no shard and no node."""
        return self._n_deaths > DEATHS_PER_WORKER * max(1, self._pool.n_most)

    def step(self) -> None:
        """Give what can be given, take what has come."""
        pool, queue = self._pool, self._queue
        pool.scale_up(len(queue) + pool.n_busy)
        while pool.n_idle and queue and queue[0].not_before <= time.monotonic():
            attempt = queue.popleft()
            worker = pool.assign(attempt)
            self._log("started", attempt.task, worker=worker, attempt=_number(attempt))
        for answer in pool.answers(POLL_S):
            self._receive(answer)
        if self._is_exhausted:
            attempts = [*pool.abandon(), *queue]
            queue.clear()
            for attempt in attempts:
                reason = f"workers die before they finish a single shard: {self._last_error}"
                self._give_up(attempt.task, reason)
        self.n_rows_begun, self.summary.begun = pool.n_rows_begun(), pool.share_begun()
        if self._run_log is not None and self._run_log.is_due:
            self._heartbeat()

    def end(self) -> None:
        """The last heartbeat."""
        self._heartbeat()

    def _receive(self, answer: Answer) -> None:
        """Take one answer: a report, a worker that has loaded, an error or a death."""
        if isinstance(answer, Failed | Died):
            if isinstance(answer.error, ConfigError | CheckpointError):
                raise answer.error from None
            self._last_error = _one_line(answer.error)
        match answer:
            case Ready(worker):
                self._log("worker_ready", None, worker=worker)
            case Done(attempt, report):
                self._done(attempt, report)
            case Failed(attempt, error):
                self._erred(attempt, error)
            case Died():
                self._died(answer)

    def _done(self, attempt: Attempt, report: Report) -> None:
        self._n_deaths = 0
        self.summary.add(report)
        self._pool.metrics.shard("done")
        rows = dict(report.n_by_status)
        busy = {stage: round(seconds, 3) for stage, seconds in report.seconds.items()}
        self._log("done", report.task, worker=report.worker, rows=rows, seconds=busy)
        if attempt.search is not None:
            quarantine.pop_last_position(self._out, attempt.task.output)  # take the note away

    def _erred(self, attempt: Attempt, error: BaseException) -> None:
        n_errors = attempt.n_errors + 1
        if n_errors >= self._n_attempts:
            self._give_up(attempt.task, _one_line(error))
            return
        wait = RETRY_BASE_S * 2 ** (n_errors - 1)
        if attempt.search is not None:
            quarantine.pop_last_position(
                self._out, attempt.task.output
            )  # nobody died: it accuses nobody
        retry = replace(attempt, n_errors=n_errors, not_before=time.monotonic() + wait)
        self._note_retry(retry, error)
        self._queue.append(retry)

    def _died(self, death: Died) -> None:
        attempt, error = death.attempt, death.error
        self.summary.n_deaths += 1
        self._pool.metrics.death()
        task = None if attempt is None else attempt.task
        self._log("worker_died", task, worker=death.worker, error=_one_line(error))
        if attempt is None:
            self._n_deaths += 1
            return
        n_deaths, search = attempt.n_deaths + 1, CrashSearch()  # the next one is watched
        # Also where nobody watched: a note that an earlier run left would accuse.
        place = quarantine.pop_last_position(self._out, attempt.task.output)
        if place is None:
            self._n_deaths += 1  # of those under watch, only what no sample explains
        if attempt.search is not None:
            search = quarantine.narrowed(attempt.search, place)
            if search.is_exhausted(n_deaths):
                self._give_up(attempt.task, f"{n_deaths} workers died at it: {_one_line(error)}")
                return
            if search.crashed != attempt.search.crashed:
                self._log("sample_crashed", task, samples=search.crashed)
        retry = replace(attempt, n_deaths=n_deaths, search=search)
        self._note_retry(retry, error)
        # Cleared up before other shards begin: where many have such a sample, each would kill first.
        self._queue.appendleft(retry)

    def _note_retry(self, attempt: Attempt, error: BaseException) -> None:
        self.summary.n_retries += 1
        self._pool.metrics.shard("retried")
        self._log("retried", attempt.task, attempt=_number(attempt), error=_one_line(error))

    def _give_up(self, task: Task, reason: str) -> None:
        self.summary.failures.append((task, reason))
        self._pool.metrics.shard("failed")
        self._log("failed", task, error=reason)

    def _log(self, event: str, task: Task | None, **facts: Any) -> None:
        if self._run_log is not None:
            self._run_log.log(event, None if task is None else redact(task.source), **facts)

    def _heartbeat(self) -> None:
        pool, summary = self._pool, self.summary
        n_left = len(self._queue) + pool.n_busy
        pool.metrics.state(n_left, pool.n_loading, pool.n_idle, pool.n_busy)
        if self._run_log is None:
            return
        self._run_log.heartbeat(
            replace(
                self._run_log.blank(),
                n_done=summary.n_shards,
                n_rows=summary.n_rows + self.n_rows_begun,
                n_by_status=dict(summary.n_by_status),
                n_samples=summary.n_samples,
                busy_s=dict(summary.seconds),
                workers=list(summary.workers),
                n_retries=summary.n_retries,
                n_deaths=summary.n_deaths,
                begun=pool.active(),
                n_failed=len(summary.failures),
                failures=[
                    {"shard": redact(task.source), "error": error}
                    for task, error in summary.failures[:MAX_LISTED]
                ],
            )
        )


def _number(attempt: Attempt) -> int:
    return 1 + attempt.n_errors + attempt.n_deaths


def _one_line(error: BaseException) -> str:
    """The first line of an error and, of a traceback, the last, where the cause stands."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()] or [""]
    text = lines[0] if len(lines) == 1 else f"{lines[0][:200]} ... {lines[-1]}"
    return f"{type(error).__name__}: {redact_text(text)}"[:500]
