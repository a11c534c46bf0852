"""A run from its plan: workers found, the queue worked off, and what lies in the folder believed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from encoders import require_precision
from generators.files import download
from generators.files.addresses import is_address
from pipeline import storage
from pipeline.config import ClusterConfig, Precision, fingerprint
from pipeline.engine import driver, progress
from pipeline.engine.driver import Progress, Summary
from pipeline.engine.local import LocalPool
from pipeline.engine.moved import Found
from pipeline.engine.pool import Pool
from pipeline.engine.progress import RunLog
from pipeline.engine.reachable import require_reachable
from pipeline.engine.run_folder import RunFolder
from pipeline.engine.worker import WorkerConfig
from pipeline.errors import ConfigError
from pipeline.records import Task
from pipeline.shards.inputs import Inputs

# Of the shards that are left, up to which they are done in this process: docs/scaling.md.
MAX_LOCAL_BYTES = 1_000_000_000


@dataclass(frozen=True)
class RunPlan:
    """A run that may start."""

    workers: WorkerConfig  # what each is given
    out: str
    tasks: list[Task]
    pending: list[Task]  # those without a committed file, and those to be done again
    settings: dict[str, Any]  # settings and checkpoint hashes
    overwrite: bool  # delete what another run left, once the run can start
    redo: frozenset[str] = frozenset()  # files that are there and to be replaced
    concurrent_run: str = ""  # who else is writing to the folder now
    found: Found = field(default_factory=Found)  # of shards that moved since they were inverted
    # Shards with rows to be tried again that nobody asked for, or that are gone.
    left: tuple[str, ...] = ()
    executor: Literal["local", "ray"] = "ray"
    inputs: Inputs = field(default_factory=Inputs)  # what was named, and left out


def execute(plan: RunPlan, cluster: ClusterConfig, progress: Progress) -> Summary:
    """Invert, or edit, what is left; rows are committed shard by shard as it goes.

    Raises:
        ConfigError, CheckpointError: see :func:`driver.run`.
    """
    out, tasks, folder = plan.out, plan.tasks, RunFolder(plan.out)
    if not plan.pending:
        folder.write_run_record(plan.settings, tasks, False, plan.found.gone, plan.found.changed)
        return Summary()
    n_before = len(tasks) - len(plan.pending)
    with _workers(plan, cluster) as pool:
        left = plan.found.gone, plan.found.changed
        folder.write_run_record(plan.settings, tasks, plan.overwrite, *left)
        with RunLog(out, len(tasks), n_before, fingerprint(plan.settings)) as log:
            summary = driver.run(
                plan.pending, pool, plan.workers.out, cluster.n_attempts, progress, log
            )
    reconcile_with_storage(plan, summary)
    if plan.concurrent_run and not summary.failures:  # both have written what was asked for
        folder.write_run_record(plan.settings, tasks, overwrite=False)
    return summary


@contextmanager
def _workers(plan: RunPlan, cluster: ClusterConfig) -> Iterator[Pool]:
    if plan.executor == "local":
        with LocalPool(plan.workers, cluster.gpus_per_actor) as pool:
            yield pool
        return
    from pipeline.engine.actors import ActorPool  # which loads Ray
    from pipeline.engine.cluster import connect

    with connect(cluster):
        yield ActorPool(plan.workers, cluster)


def reconcile_with_storage(plan: RunPlan, summary: Summary) -> None:
    """What lies in the folder decides, not what workers said of it."""
    # Of a shard that was done again, the file there may be the old one.
    unsure = plan.redo & {t.output for t, _ in summary.failures}
    committed = set(RunFolder(plan.out).committed()) - unsure
    summary.failures = [(t, why) for t, why in summary.failures if t.output not in committed]
    accounted = {t.output for t, _ in summary.failures} | committed
    reason = "its worker wrote a file that is not in the folder; is --out on storage that all nodes share?"
    summary.failures += [(t, reason) for t in plan.pending if t.output not in accounted]


def concurrent_run(out: str, overwrite: bool) -> str:
    """Who else is writing to a folder now; nobody: ""."""
    other = progress.concurrent_run(out)
    if other is None:
        return ""
    if overwrite:
        raise ConfigError(
            f"{storage.redact(out)} is being written by {other.by}; stop that run, or wait "
            f"{progress.FRESH_S:.0f} seconds if it was killed, before --overwrite"
        )
    return other.by


def absolute_file(path: str | None) -> str | None:
    """A checkpoint for workers, who have another working directory: its path, or its address.

    An address gets the sha256 of what it holds now: workers elsewhere fetch it themselves, and nothing else.

    Raises:
        CheckpointError: nothing can be had from an address.
    """
    if path is None or path == "demo":
        return path
    return download.pinned(path) if is_address(path) else os.path.abspath(path)


def runs_here(cluster: ClusterConfig) -> bool:
    """Whether a run stays on this machine, and joins no cluster."""
    return cluster.executor == "local" or not (cluster.address or os.environ.get("RAY_ADDRESS"))


def executor_for(
    cluster: ClusterConfig, out: str, pending: Sequence[Task], may_kill: bool = False
) -> Literal["local", "ray"]:
    """What runs the shards that are left: this process, or Ray.

    Ray where it is asked for, by name or by what it alone can do; where there is much to do; and where
    samples are known that may kill a worker, or the last run into the folder was killed, perhaps by one:
    Ray's workers die alone.
    """
    if cluster.executor != "auto":
        return cluster.executor
    wants_ray = (
        not runs_here(cluster)
        or (cluster.n_actors or 1) > 1
        or torch.cuda.device_count() > 1
        or cluster.gpus_per_actor not in (None, 0, 1)
        or may_kill
    )
    sizes = [task.n_bytes for task in pending]
    is_small = sum(size or 0 for size in sizes) <= MAX_LOCAL_BYTES and None not in sizes
    last = progress.read(out)
    was_killed = last is not None and last.state == "running"
    return "ray" if wants_ray or was_killed or not is_small else "local"


def require_startable(
    cluster: ClusterConfig,
    folder: RunFolder,
    pending: Sequence[Task],
    dry_run: bool,
    may_kill: bool = False,
) -> Literal["local", "ray"]:
    """Refuse an output that cannot be written, or a Ray that is out of reach; says what the run takes.

    dry_run: write nothing, and ask nobody.
    may_kill: whether some of their samples have killed workers before.
    """
    executor = executor_for(cluster, folder.address, pending, may_kill)
    if not dry_run:
        folder.require_writable()
        if executor == "ray":
            require_reachable(cluster.address)
    return executor


def require_device(precision: Precision, cluster: ClusterConfig) -> None:
    """Refuse what this machine cannot do; what a cluster can is seen when it is joined."""
    if not runs_here(cluster) or torch.cuda.is_available():
        return
    if cluster.gpus_per_actor:
        raise ConfigError("--gpus-per-actor needs a GPU, but there is none here; leave it out")
    try:
        require_precision(precision, "cpu")
    except ValueError as error:
        raise ConfigError(str(error)) from None
