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
from dataclasses import dataclass, field, replace
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from pipeline.actor import ActorConfig, InversionActor
from pipeline.config import ClusterConfig, ConfigError
from pipeline.records import ShardReport, ShardTask

CONNECT_TIMEOUT_S = 10.0
POLL_S = 0.25  # how often progress is asked for
GROW_S = 10.0  # how often new nodes are looked for
RETRY_BASE_S = 0.5  # wait before the second try; doubled for each further one
# Actors that die one after another without finishing anything: the cause is not a shard.
MAX_DEATHS_IN_A_ROW = 6


class RunError(RuntimeError):
    """A run that cannot go on; the message says why."""


@dataclass
class Attempt:
    """A shard in the queue."""

    task: ShardTask
    number: int = 1
    not_before: float = 0.0  # on the monotonic clock


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
    joins = bool(config.address or os.environ.get("RAY_ADDRESS"))
    try:
        ray.init(
            address=config.address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            include_dashboard=None if joins else False,
        )
    except (ConnectionError, ValueError) as error:
        raise _no_cluster(config.address or os.environ.get("RAY_ADDRESS"), error) from None
    try:
        yield
    finally:
        ray.shutdown()


class _Crew:
    """The actors: as many as the cluster has room for."""

    def __init__(self, config: ActorConfig, how: ClusterConfig) -> None:
        self._config, self._how = config, how
        self.idle: deque[Any] = deque()
        self.busy: dict[ray.ObjectRef, tuple[Any, Attempt]] = {}
        self._next_look = 0.0
        self._rows: dict[Any, int] = {}  # last known count of each busy actor
        self._asked: dict[ray.ObjectRef, Any] = {}

    def grow(self, n_wanted: int) -> None:
        """Start the actors that fit and that the queue has work for."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + GROW_S
        resources = ray.cluster_resources()
        n_gpus = resources.get("GPU", 0)
        each = self._how.gpus_per_actor
        each = (1.0 if n_gpus else 0.0) if each is None else each
        n_nodes = sum(node["Alive"] for node in ray.nodes())
        fitting = int(n_gpus / each) if each else self._how.n_actors or n_nodes
        if not fitting:
            raise ConfigError(
                f"--gpus-per-actor {each:g} fits nowhere: the cluster has {n_gpus:g} GPUs; leave it out "
                "to run on CPUs"
            )
        target = min(self._how.n_actors or fitting, fitting, n_wanted)
        n_cpus = max(1, int(resources.get("CPU", 1)))
        config = replace(
            self._config,
            n_in_flight=2 * max(2, -(-n_cpus // max(1, target))),
            n_threads=max(1, n_cpus // n_nodes // max(1, -(-target // n_nodes))),
        )
        # No CPUs asked for: an actor must not keep the aligners that feed it from a one-core machine.
        options = {
            "num_gpus": each,
            "num_cpus": 0,
            "max_concurrency": 2,  # process, and n_rows beside it
            "scheduling_strategy": "SPREAD",
        }
        for _ in range(target - len(self.idle) - len(self.busy)):
            self.idle.append(ray.remote(InversionActor).options(**options).remote(config))

    def give(self, attempt: Attempt) -> None:
        actor = self.idle.popleft()
        self.busy[actor.process.remote(attempt.task)] = (actor, attempt)
        self._rows[actor] = 0

    def take(self, reference: ray.ObjectRef, alive: bool) -> Attempt:
        actor, attempt = self.busy.pop(reference)
        self._rows.pop(actor, None)
        if alive:
            self.idle.append(actor)
        else:
            self._next_look = 0.0  # replace it at once
        return attempt

    def n_rows_begun(self) -> int:
        """Rows of unfinished shards, as far as the actors have told; asks them again."""
        asked = list(self._asked)
        ready = ray.wait(asked, num_returns=len(asked), timeout=0)[0] if asked else []
        for reference in ready:
            actor = self._asked.pop(reference)
            if actor in self._rows:
                try:
                    self._rows[actor] = ray.get(reference)
                except RayError:
                    self._rows[actor] = 0  # it died; its shard's reference tells the driver
        waiting = set(self._asked.values())
        self._asked |= {a.n_rows.remote(): a for a, _ in self.busy.values() if a not in waiting}
        return sum(self._rows.values())


def run(
    tasks: Sequence[ShardTask], config: ActorConfig, how: ClusterConfig, progress: Progress
) -> Summary:
    """Invert every shard; called inside :func:`cluster`.

    Raises:
        ConfigError: something that no retry mends (out of memory, other weights on a node).
        RunError: actors keep dying.
    """
    summary = Summary()
    queue = deque(Attempt(task) for task in tasks)
    crew = _Crew(config, how)
    n_deaths = 0
    while queue or crew.busy:
        crew.grow(len(queue) + len(crew.busy))
        while crew.idle and queue and queue[0].not_before <= time.monotonic():
            crew.give(queue.popleft())
        if not crew.busy:
            time.sleep(POLL_S)
            continue
        ready, _ = ray.wait(list(crew.busy), num_returns=1, timeout=POLL_S)
        for reference in ready:
            try:
                report = ray.get(reference)
            except RayActorError as error:
                n_deaths += 1
                attempt = crew.take(reference, alive=False)
                if n_deaths >= MAX_DEATHS_IN_A_ROW:
                    raise RunError(f"workers die before they finish a shard: {error}") from None
                _retry(attempt, error, how, queue, summary)
            except RayTaskError as error:
                if isinstance(error.cause, ConfigError):
                    raise error.cause from None
                _retry(crew.take(reference, alive=True), error.cause, how, queue, summary)
            else:
                n_deaths = 0
                crew.take(reference, alive=True)
                summary.add(report)
        progress(summary, crew.n_rows_begun())
    return summary


def _retry(
    attempt: Attempt,
    error: BaseException,
    how: ClusterConfig,
    queue: deque[Attempt],
    summary: Summary,
) -> None:
    if attempt.number >= how.n_attempts:
        summary.failures.append((attempt.task, _one_line(error)))
        return
    wait = RETRY_BASE_S * 2 ** (attempt.number - 1)
    queue.append(Attempt(attempt.task, attempt.number + 1, time.monotonic() + wait))


def _one_line(error: BaseException) -> str:
    first = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {first[0]}"[:500]
