"""The actors of a run: started where the cluster has room, given shards, replaced when they die."""

from __future__ import annotations

import contextlib
import socket
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from pipeline.config import ClusterConfig
from pipeline.engine.metrics import DriverMetrics
from pipeline.engine.pool import Answer, Attempt, Died, Done, Failed, Ready
from pipeline.engine.progress import ActiveShard
from pipeline.engine.worker import WorkerConfig
from pipeline.errors import ConfigError
from pipeline.storage import redact

GROW_S = 10.0  # how often new nodes are looked for
HEAD_LOST_S = 30.0  # silence of the cluster's head after which it is given up
HEAD_TIMEOUT_S = 5.0
ASK_S = 1.0  # how often actors are asked for their rows: each question costs the driver 0.07 ms


@dataclass
class Work:
    """What a busy actor is at."""

    actor: Any
    attempt: Attempt
    since: float  # on the monotonic clock
    n_rows: int = 0  # as last told
    share: float = 0.0  # of the shard, as last told; 0 where that is not known


class ActorPool:
    """The actors: as many as the cluster has room for. Work is given to those that have loaded."""

    def __init__(self, config: WorkerConfig, cluster: ClusterConfig) -> None:
        self._config, self._cluster = config, cluster
        self.idle: deque[Any] = deque()
        self.loading: dict[ray.ObjectRef, Any] = {}
        self.busy: dict[ray.ObjectRef, Work] = {}
        self._names: dict[Any, str] = {}  # of those that have loaded
        # GPUs of an actor, decided once: later nodes may have others.
        self._each: float | None = None
        self._next_look = 0.0
        self._asked: dict[ray.ObjectRef, Work] = {}
        self._next_question = 0.0
        self._head = _Head()
        self.metrics = DriverMetrics()
        self.n_most = 0  # actors alive at once so far

    @property
    def n_idle(self) -> int:
        return len(self.idle)

    @property
    def n_loading(self) -> int:
        return len(self.loading)

    @property
    def n_busy(self) -> int:
        return len(self.busy)

    def scale_up(self, n_wanted: int) -> None:
        """Start the actors that fit and that the queue has work for.

        Raises:
            ConfigError: an actor fits on no node; there is no CPU; the cluster's head is gone.
        """
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + GROW_S
        if not self._head.answers():
            return
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        target = self._n_fitting(nodes)
        if not target:
            return  # all nodes with a GPU are gone; others may join
        if not self._config.n_threads:
            # Decided once a run: the number of threads shows in the last bits of a latent.
            n_cpus = int(sum(node.get("CPU", 0) for node in nodes))
            if not n_cpus:
                raise ConfigError(
                    "no node of the cluster offers a CPU, which decoding and alignment need; start one "
                    "with `ray start --num-cpus`"
                )
            self._config = replace(
                self._config,
                n_in_flight=2 * max(2, -(-n_cpus // target)),
                n_threads=max(1, n_cpus // len(nodes) // -(-target // len(nodes))),
            )
        # No CPUs asked for: an actor must not keep the aligners that feed it from a one-core machine.
        options = {
            "num_gpus": self._each,
            "num_cpus": 0,
            "max_concurrency": 2,  # process, and reached beside it
            "scheduling_strategy": "SPREAD",
        }
        n_alive = len(self.idle) + len(self.loading) + len(self.busy)
        for _ in range(min(target, n_wanted) - n_alive):
            kind = ray.remote(self._config.worker_class)
            actor: Any = kind.options(**options).remote(self._config)
            self.loading[actor.load.remote()] = actor
        self.n_most = max(self.n_most, min(target, n_wanted))

    def _n_fitting(self, nodes: Sequence[Mapping[str, float]]) -> int:
        """Actors that these nodes have room for, no more than asked for."""
        n_gpus = sum(node.get("GPU", 0) for node in nodes)
        is_first = self._each is None
        if self._each is None:
            share = self._cluster.gpus_per_actor
            self._each = (1.0 if n_gpus else 0.0) if share is None else share
        if not self._each:
            return self._cluster.n_actors or len(nodes)
        fitting = sum(_n_fitting(node.get("GPU", 0), self._each) for node in nodes)
        if not fitting and is_first:
            raise ConfigError(
                f"--gpus-per-actor {self._each:g} does not fit on any node: the cluster has {n_gpus:g} GPUs; "
                "leave it out to run on CPUs"
            )
        return min(self._cluster.n_actors or fitting, fitting)

    def assign(self, attempt: Attempt) -> str:
        """Have an idle actor begin a shard; returns the actor's name."""
        actor = self.idle.popleft()
        reference = actor.process.remote(attempt.task, attempt.search)
        self.busy[reference] = Work(actor, attempt, time.monotonic())
        return self._names[actor]

    def answers(self, timeout_s: float) -> list[Answer]:
        """What has come; waits for the first of it, but no longer than that."""
        begun = [*self.busy, *self.loading]
        if not begun:
            time.sleep(timeout_s)
            return []
        if not ray.wait(begun, num_returns=1, timeout=timeout_s)[0]:
            return []
        # With many actors there is seldom one answer alone.
        ready = ray.wait(begun, num_returns=len(begun), timeout=0)[0]
        return [self._received(reference) for reference in ready]

    def _received(self, reference: ray.ObjectRef) -> Answer:
        try:
            answer = ray.get(reference)
        except RayTaskError as error:
            if reference in self.busy:
                return Failed(self._finished(reference), error.cause)
            return self._lost(reference, error.cause)
        except RayError as error:  # its process or its node died, or is out of reach
            return self._lost(reference, error)
        if reference in self.loading:
            return self._loaded(reference, answer)
        return Done(self._finished(reference), answer)

    def _loaded(self, reference: ray.ObjectRef, name: str) -> Ready:
        actor = self.loading.pop(reference)
        self._names[actor] = name
        self.idle.append(actor)
        return Ready(name)

    def _finished(self, reference: ray.ObjectRef) -> Attempt:
        """The shard that the actor was at; the actor is idle again."""
        work = self.busy.pop(reference)
        self.idle.append(work.actor)
        return work.attempt

    def _lost(self, reference: ray.ObjectRef, error: BaseException) -> Died:
        """Forget a dead actor."""
        work = self.busy.pop(reference, None)
        # One that was loading is replaced at the next look: a node where none can load is left time.
        actor = self.loading.pop(reference) if work is None else work.actor
        if work is not None:
            self._next_look = 0.0  # replaced at once
        with contextlib.suppress(RayError):
            ray.kill(actor)  # one that was only out of reach would keep its GPU
        return Died(None if work is None else work.attempt, self._names.pop(actor, ""), error)

    def abandon(self) -> list[Attempt]:
        """Expect no more answers; what the actors were at."""
        attempts = [work.attempt for work in self.busy.values()]
        self.busy.clear()
        return attempts

    def n_rows_begun(self) -> int:
        """Rows of unfinished shards, as far as the actors have told; asks them again now and then."""
        if time.monotonic() >= self._next_question:
            self._next_question = time.monotonic() + ASK_S
            self._ask()
        return sum(work.n_rows for work in self.busy.values())

    def share_begun(self) -> float:
        """How many shards the rows of unfinished ones amount to, as far as the actors know."""
        return sum(work.share for work in self.busy.values())

    def _ask(self) -> None:
        references = list(self._asked)
        ready = (
            ray.wait(references, num_returns=len(references), timeout=0)[0] if references else []
        )
        for reference in ready:
            work = self._asked.pop(reference)
            try:
                work.n_rows, work.share = ray.get(reference)
            except RayError:
                work.n_rows, work.share = 0, 0.0  # it died; its shard's reference tells the driver
        waiting = {id(work) for work in self._asked.values()}
        new = [work for work in self.busy.values() if id(work) not in waiting]
        self._asked |= {work.actor.reached.remote(): work for work in new}

    def active(self) -> list[ActiveShard]:
        """What each busy actor is at."""
        now = time.monotonic()
        return [
            ActiveShard(
                shard=redact(work.attempt.task.source),
                worker=self._names[work.actor],
                n_rows=work.n_rows,
                seconds=round(now - work.since, 1),
            )
            for work in self.busy.values()
        ]


class _Head:
    """Whether the cluster's head answers. Ray itself waits for a minute and then ends the process."""

    def __init__(self) -> None:
        host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
        self._address = (host.strip("[]"), int(port))
        self._silent_since: float | None = None

    def answers(self) -> bool:
        """Raises ConfigError when it has been silent for long."""
        try:
            socket.create_connection(self._address, timeout=HEAD_TIMEOUT_S).close()
        except OSError:
            now = time.monotonic()
            self._silent_since = now if self._silent_since is None else self._silent_since
            if now - self._silent_since > HEAD_LOST_S:
                raise ConfigError(
                    "the head of the Ray cluster is gone; start the cluster and run the same command "
                    "again, which continues"
                ) from None
            return False
        self._silent_since = None
        return True


def _n_fitting(n_gpus: float, each: float) -> int:
    """Actors that a node has room for; an actor's share lies on one GPU."""
    if not each:
        return 0
    return int(n_gpus // each) if each >= 1 else int(n_gpus) * int(1 / each)
