"""The queue: shards to actors, dead actors replaced, failures retried, growth with the cluster.

Ray is never trusted with the state of a run: what is done is what lies in the output folder. A shard that
two actors finish is written twice with the same bytes.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import ray
from ray.exceptions import RayActorError, RayTaskError

from generators import CheckpointError
from pipeline.actor import ActorConfig
from pipeline.config import ClusterConfig, ConfigError
from pipeline.crew import Attempt, Crew
from pipeline.editing.actor import EditorConfig
from pipeline.records import ShardReport, ShardTask

CONNECT_TIMEOUT_S = 10.0
POLL_S = 0.25  # how often progress is asked for
RETRY_BASE_S = 0.5  # wait before the second try; doubled for each further one


@dataclass
class Summary:
    """What a run did, added up."""

    n_shards: int = 0
    n_samples: int = 0
    n_by_status: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)  # busy time by stage
    workers: Counter[str] = field(default_factory=Counter)  # shards by worker
    failures: list[tuple[ShardTask, str]] = field(default_factory=list)

    def add(self, report: ShardReport) -> None:
        self.n_shards += 1
        self.n_samples += report.n_samples
        self.n_by_status.update(report.n_by_status)
        self.seconds.update(report.seconds)
        self.workers[report.worker] += 1

    @property
    def n_rows(self) -> int:
        return sum(self.n_by_status.values())


# Called with the summary so far and the rows of unfinished shards.
Progress = Callable[[Summary, int], None]


def require_reachable(address: str | None) -> None:
    """Refuse an address where nobody listens; Ray itself would end the process without an exception."""
    address = address or os.environ.get("RAY_ADDRESS")
    host, _, port = (address or "").rpartition("://")[2].partition(":")
    if not port.isdigit():
        return  # none, or "auto", which Ray looks up and refuses by itself
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise _no_cluster(address, error) from None


def _no_cluster(address: str | None, error: Exception) -> ConfigError:
    return ConfigError(
        f"no Ray cluster answers at {address} ({error}); start one with `ray start --head`, or leave "
        "--address out to run on this machine"
    )


@contextmanager
def cluster(config: ClusterConfig) -> Iterator[None]:
    """Join the Ray cluster at the address, or start one here for the time of the run.

    Raises:
        ConfigError: no cluster at the address.
    """
    # Ray's own logs and usage notes do not belong into the output of a command.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Without "local", Ray would join whatever cluster was started last on this machine.
    address = config.address or os.environ.get("RAY_ADDRESS") or "local"
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            include_dashboard=False if address == "local" else None,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:  # the last: another version of Ray
        raise _no_cluster(address, error) from None
    try:
        yield
    finally:
        ray.shutdown()


def run(
    tasks: Sequence[ShardTask],
    config: ActorConfig | EditorConfig,
    how: ClusterConfig,
    progress: Progress,
) -> Summary:
    """Invert, or edit, every shard; called inside :func:`cluster`.

    Shards that could not be finished are in the summary's ``failures``.

    Raises:
        ConfigError, CheckpointError: something that no retry mends (out of memory, other weights on a
            node).
    """
    summary = Summary()
    queue = deque(Attempt(task) for task in tasks)
    crew = Crew(config, how)
    while queue or crew.busy:
        crew.grow(len(queue) + len(crew.busy))
        while crew.idle and queue and queue[0].not_before <= time.monotonic():
            crew.give(queue.popleft())
        begun = [*crew.busy, *crew.loading]
        if not begun:
            time.sleep(POLL_S)
        ready = ray.wait(begun, num_returns=1, timeout=POLL_S)[0] if begun else []
        for reference in ready:
            _receive(reference, crew, how, queue, summary)
        if crew.is_hopeless:
            left = [*queue, *(attempt for _, attempt in crew.busy.values())]
            reason = f"workers die before they finish a shard: {crew.last_error}"
            summary.failures += [(attempt.task, reason) for attempt in left]
            break
        progress(summary, crew.n_rows_begun())
    return summary


def _receive(
    reference: ray.ObjectRef,
    crew: Crew,
    how: ClusterConfig,
    queue: deque[Attempt],
    summary: Summary,
) -> None:
    """Take one answer: a report, a loaded actor, an error or a death."""
    try:
        report = ray.get(reference)
    except RayActorError as error:
        crew.last_error = _one_line(error)
        _retry(crew.take(reference, alive=False), error, how, queue, summary)
    except RayTaskError as error:
        if isinstance(error.cause, ConfigError | CheckpointError):
            raise error.cause from None
        loaded = reference in crew.busy
        crew.last_error = _one_line(error.cause)
        _retry(crew.take(reference, alive=loaded), error.cause, how, queue, summary)
    else:
        crew.take(reference, alive=True)
        if report is not None:
            crew.n_deaths = 0
            summary.add(report)


def _retry(
    attempt: Attempt | None,
    error: BaseException,
    how: ClusterConfig,
    queue: deque[Attempt],
    summary: Summary,
) -> None:
    if attempt is None:
        return
    if attempt.number >= how.n_attempts:
        summary.failures.append((attempt.task, _one_line(error)))
        return
    wait = RETRY_BASE_S * 2 ** (attempt.number - 1)
    queue.append(Attempt(attempt.task, attempt.number + 1, time.monotonic() + wait))


def _one_line(error: BaseException) -> str:
    first = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {first[0]}"[:500]
