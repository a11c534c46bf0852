"""What a worker needs of the place that it runs in: a Ray actor (`ray_host`), or this process (`local`)."""

from __future__ import annotations

from typing import NoReturn, Protocol

from pipeline.engine.tasks import Tasks
from pipeline.records import Report


class Host(Protocol):
    """Where a worker runs."""

    @property
    def tasks(self) -> Tasks: ...  # where CPU tasks are run

    def worker_name(self) -> str:
        """Node, GPU and process."""
        ...

    def gpu_share(self) -> float:
        """The part of a GPU that the worker was given; 1 where it has a whole one, or several."""
        ...

    def count(self, report: Report, seconds: float) -> None:
        """Tell whoever watches of a finished shard, which took so many seconds."""
        ...

    def leave(self, error: BaseException) -> NoReturn:
        """The device stays broken after this error: after one of CUDA's, every later call fails as well."""
        ...
