"""Numbers of a run for Prometheus, by Ray's metrics agent on every node (needs the extra `cluster`).

Ray puts `ray_` before each name and adds its own tags (node, worker). docs/reliability.md names them all.
"""

from __future__ import annotations

from ray.util.metrics import Counter, Gauge, Histogram

from pipeline.engine.stopwatch import WAIT
from pipeline.records import Report

# From a shard of a few small images to one of many large ones on a CPU.
SHARD_SECONDS = [1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0]


class WorkerMetrics:
    """What an actor tells of each finished shard."""

    def __init__(self) -> None:
        self._rows = Counter("restyle_rows_total", "Rows committed", ("status",))
        self._stages = Counter("restyle_stage_seconds_total", "Busy time by stage", ("stage",))
        self._wait = Counter(
            "restyle_device_wait_seconds_total", "Time in which the device waited for input"
        )
        self._shard = Histogram(
            "restyle_shard_seconds", "From a shard's first byte to its commit", SHARD_SECONDS
        )

    def add(self, report: Report, seconds: float) -> None:
        """Count a finished shard, which took so many seconds."""
        for status, n in report.n_by_status.items():
            self._rows.inc(n, {"status": status})
        for stage, busy in report.seconds.items():
            if busy <= 0:
                continue
            if stage == WAIT:
                self._wait.inc(busy)
            else:
                self._stages.inc(busy, {"stage": stage})
        self._shard.observe(seconds)


class DriverMetrics:
    """What the driver tells of its queue and its workers."""

    def __init__(self) -> None:
        self._shards = Counter(
            "restyle_shards_total", "Shards by what became of them", ("outcome",)
        )
        self._deaths = Counter("restyle_worker_deaths_total", "Actors that died")
        self._left = Gauge("restyle_shards_left", "Shards not yet finished")
        self._workers = Gauge("restyle_workers", "Actors by what they do", ("state",))

    def shard(self, outcome: str) -> None:
        """done, retried or failed."""
        self._shards.inc(1, {"outcome": outcome})

    def death(self) -> None:
        self._deaths.inc(1)

    def state(self, n_left: int, n_loading: int, n_idle: int, n_busy: int) -> None:
        """Show the shards left and the actors by what they do."""
        self._left.set(n_left)
        for name, n in (("loading", n_loading), ("idle", n_idle), ("busy", n_busy)):
            self._workers.set(n, {"state": name})
