"""A worker's place in a Ray cluster: an actor, whose process is its own."""

from __future__ import annotations

import os
from typing import NoReturn

import ray

from pipeline.engine.metrics import WorkerMetrics
from pipeline.engine.ray_tasks import RayTasks
from pipeline.records import Report


class RayHost:
    """The actor's process on its node."""

    def __init__(self) -> None:
        self.tasks = RayTasks()
        self._metrics = WorkerMetrics()

    def worker_name(self) -> str:
        """Node, GPU and process."""
        context = ray.get_runtime_context()
        gpus = ",".join(map(str, context.get_accelerator_ids().get("GPU", []))) or "none"
        return f"{context.get_node_id()[:8]} gpu {gpus} pid {os.getpid()}"

    def gpu_share(self) -> float:
        """The part of a GPU that the actor was given; 1 where it has a whole one, or several."""
        return min(1.0, ray.get_runtime_context().get_assigned_resources().get("GPU", 1.0))

    def count(self, report: Report, seconds: float) -> None:
        """Tell Prometheus of a finished shard."""
        self._metrics.add(report, seconds)

    def leave(self, _: BaseException) -> NoReturn:
        """End this process: the driver sees a death, and starts another one."""
        os._exit(1)
