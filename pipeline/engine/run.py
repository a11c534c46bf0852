"""A run from its plan: the cluster joined, the queue worked off, and what lies in the folder believed."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import torch

from encoders import require_precision
from generators.files import download
from generators.files.addresses import is_address
from pipeline import storage
from pipeline.config import ClusterConfig, Precision, fingerprint
from pipeline.engine import driver, progress
from pipeline.engine.cluster import connect
from pipeline.engine.driver import Progress, Summary
from pipeline.engine.moved import Found
from pipeline.engine.progress import RunLog
from pipeline.engine.run_folder import RunFolder
from pipeline.engine.worker import WorkerConfig
from pipeline.errors import ConfigError
from pipeline.records import Task


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
    left: tuple[
        str, ...
    ] = ()  # shards with rows to be tried again that nobody asked for, or that are gone


def execute(plan: RunPlan, cluster: ClusterConfig, progress: Progress) -> Summary:
    """Invert, or edit, what is left; rows are committed shard by shard as it goes.

    Raises:
        ConfigError, CheckpointError: see :func:`driver.run`.
    """
    out, tasks, folder = plan.out, plan.tasks, RunFolder(plan.out)
    if not plan.pending:
        folder.write_run_record(plan.settings, tasks, overwrite=False, gone=plan.found.gone)
        return Summary()
    n_before = len(tasks) - len(plan.pending)
    with connect(cluster):
        folder.write_run_record(plan.settings, tasks, plan.overwrite, plan.found.gone)
        with RunLog(out, len(tasks), n_before, fingerprint(plan.settings)) as log:
            summary = driver.run(plan.pending, plan.workers, cluster, progress, log)
    reconcile_with_storage(plan, summary)
    if plan.concurrent_run and not summary.failures:  # both have written what was asked for
        folder.write_run_record(plan.settings, tasks, overwrite=False)
    return summary


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
    """Whether a run starts Ray on this machine, and joins no cluster."""
    return not (cluster.address or os.environ.get("RAY_ADDRESS"))


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
