"""The actors of a run: started where the cluster has room, given shards, replaced when they die."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.exceptions import RayError

from pipeline.actor import ActorConfig
from pipeline.config import ClusterConfig, ConfigError
from pipeline.editing.actor import EditorConfig
from pipeline.records import ShardTask

GROW_S = 10.0  # how often new nodes are looked for
# Deaths for each actor, with no shard finished between them, after which a run is given up.
DEATHS_PER_ACTOR = 3


@dataclass
class Attempt:
    """A shard in the queue."""

    task: ShardTask
    number: int = 1
    not_before: float = 0.0  # on the monotonic clock


class Crew:
    """The actors: as many as the cluster has room for. Work is given to those that have loaded."""

    def __init__(self, config: ActorConfig | EditorConfig, how: ClusterConfig) -> None:
        self._config, self._how = config, how
        self.idle: deque[Any] = deque()
        self.loading: dict[ray.ObjectRef, Any] = {}
        self.busy: dict[ray.ObjectRef, tuple[Any, Attempt]] = {}
        self._next_look = 0.0
        self._rows: dict[Any, int] = {}  # last known count of each busy actor
        self._asked: dict[ray.ObjectRef, Any] = {}
        self.last_error = ""
        self.n_deaths = 0  # in a row, with no shard finished between them
        self._most = 0  # actors alive at once so far

    @property
    def is_hopeless(self) -> bool:
        """Whether all actors died several times over: then the cause is no shard and no node."""
        return self.n_deaths > DEATHS_PER_ACTOR * max(1, self._most)

    def grow(self, n_wanted: int) -> None:
        """Start the actors that fit and that the queue has work for."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + GROW_S
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        n_gpus = sum(node.get("GPU", 0) for node in nodes)
        each = self._how.gpus_per_actor
        each = (1.0 if n_gpus else 0.0) if each is None else each
        fitting = sum(_n_fitting(node.get("GPU", 0), each) for node in nodes)
        if not each:
            fitting = self._how.n_actors or len(nodes)
        if not fitting:
            raise ConfigError(
                f"--gpus-per-actor {each:g} fits nowhere: the cluster has {n_gpus:g} GPUs; leave it out "
                "to run on CPUs"
            )
        target = min(self._how.n_actors or fitting, fitting)
        if not self._config.n_threads:
            # Decided once a run: the number of threads shows in the last bits of a latent.
            n_cpus = max(1, int(sum(node.get("CPU", 0) for node in nodes)))
            self._config = replace(
                self._config,
                n_in_flight=2 * max(2, -(-n_cpus // target)),
                n_threads=max(1, n_cpus // len(nodes) // -(-target // len(nodes))),
            )
        # No CPUs asked for: an actor must not keep the aligners that feed it from a one-core machine.
        options = {
            "num_gpus": each,
            "num_cpus": 0,
            "max_concurrency": 2,  # process, and n_rows beside it
            "scheduling_strategy": "SPREAD",
        }
        n_alive = len(self.idle) + len(self.loading) + len(self.busy)
        for _ in range(min(target, n_wanted) - n_alive):
            kind = ray.remote(self._config.actor_class)
            actor: Any = kind.options(**options).remote(self._config)
            self.loading[actor.load.remote()] = actor
        self._most = max(self._most, min(target, n_wanted))

    def give(self, attempt: Attempt) -> None:
        actor = self.idle.popleft()
        self.busy[actor.process.remote(attempt.task)] = (actor, attempt)
        self._rows[actor] = 0

    def take(self, reference: ray.ObjectRef, alive: bool) -> Attempt | None:
        """What the actor was at, None where it was loading; the actor is idle again, or forgotten."""
        attempt = None
        if reference in self.loading:
            actor = self.loading.pop(reference)
        else:
            actor, attempt = self.busy.pop(reference)
            self._rows.pop(actor, None)
        if alive:
            self.idle.append(actor)
        else:
            self.n_deaths += 1
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


def _n_fitting(n_gpus: float, each: float) -> int:
    """Actors that a node has room for; an actor's share lies on one GPU."""
    if not each:
        return 0
    return int(n_gpus // each) if each >= 1 else int(n_gpus) * int(1 / each)
