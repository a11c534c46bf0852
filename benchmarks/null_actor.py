"""Actors that cost nothing, and a Ray simulated in the driver's process: for benchmarks/scaling.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from ray.exceptions import RayError

from pipeline.engine.worker import WorkerConfig


@dataclass(frozen=True, kw_only=True)
class NullConfig(WorkerConfig):
    """Of a worker that costs nothing."""

    @property
    def worker_class(self) -> Any:
        return NullActor


class NullActor:
    """Takes the place of a worker: a report at once."""

    def __init__(self, config: Any) -> None:
        pass

    def load(self) -> str:
        return "a node gpu 0 pid 1"

    def reached(self) -> tuple[int, float]:
        return 0, 0.0

    def process(self, task: Any, search: Any = None) -> Any:
        from pipeline.records import Report

        return Report(task, 1000, {"ok": 1000}, {"invert": 1.0}, self.load())


@dataclass(eq=False)
class Reference:
    """An answer that is there already."""

    value: Any


class _Handle:
    """An actor of the simulation: ``handle.method.remote(...)``."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def __getattr__(self, name: str) -> Any:
        method: Callable[..., Any] = getattr(self._actor, name)
        return SimpleNamespace(remote=lambda *arguments: _reference(method, arguments))


def _reference(method: Callable[..., Any], arguments: Sequence[Any]) -> Reference:
    try:
        return Reference(method(*arguments))
    except RayError as error:  # it died
        return Reference(error)


def _get(reference: Reference) -> Any:
    if isinstance(reference.value, RayError):
        raise reference.value
    return reference.value


def _wait(
    references: Sequence[Reference], num_returns: int = 1, timeout: float | None = None
) -> tuple[list[Reference], list[Reference]]:
    # The last first: actors are loaded before shards are done, and then all of them are busy.
    n_left = len(references) - num_returns
    return list(references[n_left:]), list(references[:n_left])


def simulate(n_gpus: int, actor_class: type = NullActor) -> None:
    """Put the simulation in the place of Ray, for the driver and its pool of actors, in this process."""
    from pipeline.engine import actors

    new = SimpleNamespace(remote=lambda config: _Handle(actor_class(config)))
    actor = SimpleNamespace(options=lambda **_: new)
    simulated = SimpleNamespace(
        wait=_wait,
        get=_get,
        kill=lambda _: None,
        nodes=lambda: [{"Alive": True, "Resources": {"GPU": n_gpus, "CPU": 16.0}}],
        remote=lambda _: actor,
        ObjectRef=Reference,
    )
    actors.ray = simulated  # type: ignore[assignment]
    actors._Head = lambda: SimpleNamespace(answers=lambda: True)  # type: ignore[assignment,misc]
