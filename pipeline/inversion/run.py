"""A run from its settings: everything that can be refused is refused before it starts."""

from __future__ import annotations

import os
from collections.abc import Sequence, Set
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from encoders import Bootstrap, ReStyle
from encoders.execution import WORTH_COMPILING
from generators import kinds
from generators.files.addresses import is_address
from generators.precision import dtype_of
from pipeline import storage
from pipeline.config import LABEL_PREFIX, PATHS, ClusterConfig, RunConfig, fingerprint
from pipeline.engine import audit, run_folder
from pipeline.engine.run import (
    RunPlan,
    absolute_file,
    concurrent_run,
    require_device,
    require_startable,
    runs_here,
)
from pipeline.engine.run_folder import RunFolder
from pipeline.errors import ConfigError
from pipeline.inversion import batch_size, clips
from pipeline.inversion.actor import ActorConfig
from pipeline.inversion.scoring import Scorer
from pipeline.models import advice, checkpoint_hashes, load_model
from pipeline.records import RETRYABLE, Task
from pipeline.shards import inputs, label_file, labels
from pipeline.shards.label_file import LabelTable
from pipeline.storage.pace import Limits

# Libraries whose version can change a number in the output.
RECORDED = ("restyle-batch", "torch", "numpy", "pillow", "dlib-bin", "pyarrow")
BYTES_PER_IMAGE = 100_000  # of a shard, about
# Feature maps of the last layer alive at once: input, convolution, noise and activation.
N_MAPS_ALIVE = 4


def plan_inversion(
    shards: Sequence[str],
    out: str,
    config: RunConfig,
    cluster: ClusterConfig,
    *,
    overwrite: bool = False,
    retry_failed: bool = False,
    redo_changed: bool = False,
    forget: Sequence[str] = (),
    dry_run: bool = False,
) -> RunPlan:
    """Check input, checkpoint, cluster and output. Deletes nothing; writes nothing if ``dry_run``.

    retry_failed: do again the shards that hold rows which another machine or version may mend.
    redo_changed: do again the shards that have changed since they were done, and delete their files.
    forget: patterns of shards that are not meant, and asked for no more.

    Raises:
        ConfigError, CheckpointError: one sentence that says what to do.
    """
    require_device(config.precision, cluster)
    found = inputs.expand(shards)  # what is no input is told before anything is loaded
    if config.clips is not None:
        clips.require_tars(found.versions)
    config = _pinned(config)
    model = load_model(config)
    if runs_here(cluster) and not torch.cuda.is_available():
        _require_memory(model, config, cluster.batch_size or batch_size.ON_CPU)
    config, table = _labelled([*found.versions], out, config, cluster, overwrite)
    _require_class_label(config, model)
    settings = {**config.settings(), **checkpoint_hashes(model), **Scorer(config).hashes()}
    tasks = run_folder.tasks_of(found.versions, fingerprint(settings), forget)
    folder = RunFolder(out)
    folder.require_compatible(settings, overwrite, advice)
    planned = folder.planned(tasks, overwrite, redo_changed)
    tasks, pending = planned.tasks, planned.pending
    redo: frozenset[str] = frozenset()
    left: tuple[str, ...] = ()
    if retry_failed and not overwrite:
        redo, left = _to_redo(folder, {t.output for t in tasks})
        wanted = redo | {t.output for t in pending}
        pending = [t for t in tasks if t.output in wanted]
    executor = require_startable(cluster, folder, pending, dry_run, bool(redo))
    workers = actor_config(config, out, settings, cluster, tasks, table)
    other = concurrent_run(out, overwrite)
    now = tasks, pending, settings, overwrite, redo, other, planned.found, left
    return RunPlan(workers, out, *now, executor, inputs=found)


def _to_redo(folder: RunFolder, asked: Set[str]) -> tuple[frozenset[str], tuple[str, ...]]:
    """Files with rows that may be tried again: those asked for, and the shards of those that are not."""
    files = set(audit.with_rows(folder.address, folder.committed(), RETRYABLE))
    others = [r["url"] for r in folder.shards() or [] if r["output"] in files - asked]
    return frozenset(files & asked), tuple(others)


def _labelled(
    urls: Sequence[str], out: str, config: RunConfig, cluster: ClusterConfig, overwrite: bool
) -> tuple[RunConfig, LabelTable | None]:
    """The run with its label columns, and the file of labels, which is believed where both have one."""
    table, of_file = None, dict[str, str]()
    if config.label_file is not None:
        table = label_file.read(config.label_file, config.label_on, config.label_columns)
        of_file = table.types
        config = replace(config, label_sha256=table.sha256)
    of_members = {}
    if config.keep_fields:
        of_members = _label_columns(urls, out, config, cluster, overwrite)
    return replace(config, labels={**of_members, **of_file}), table


def _require_class_label(config: RunConfig, model: ReStyle | Bootstrap) -> None:
    """Refuse a label of classes that this run has no use for, or does not have."""
    name, option = config.class_label, f"--class-label {config.class_label}"
    if name is None:
        return
    if config.init != "random":
        raise ConfigError(f"{option} is for --init random; without it no class is asked for")
    if not model.generator.c_dim:
        raise ConfigError(f"{option} is for a generator that draws by class, and this one does not")
    if LABEL_PREFIX + name not in config.labels:
        raise ConfigError(
            f"{option} is no label of this run; keep it with --keep-fields cls (or json), or --labels FILE"
        )


def _label_columns(
    urls: Sequence[str],
    out: str,
    config: RunConfig,
    cluster: ClusterConfig,
    overwrite: bool,
) -> dict[str, str]:
    """Those of the run that the folder holds: shards that are added later may show others first."""
    old = None if overwrite else RunFolder(out).settings()
    if old and old.get("keep_fields") == list(config.keep_fields):
        return {**labels.of_settings(old), **config.labels}
    return labels.columns(urls, config.keep_fields, config.labels, _limits(cluster))


def _limits(cluster: ClusterConfig) -> Limits:
    return Limits(cluster.least_speed, total_s=cluster.shard_timeout)


def actor_config(
    config: RunConfig,
    out: str,
    settings: dict[str, Any],
    cluster: ClusterConfig,
    tasks: Sequence[Task] = (),
    table: LabelTable | None = None,
) -> ActorConfig:
    """What the actors of an inversion are told."""
    return ActorConfig(
        run=_absolute(config),
        out=storage.absolute(out),
        settings=settings,
        versions={name: _version(name) for name in RECORDED},
        batch_size=cluster.batch_size,
        compile=cluster.compile,
        limits=_limits(cluster),
        is_long=_is_long(tasks, cluster),
        labels=table,
    )


def _is_long(tasks: Sequence[Task], cluster: ClusterConfig) -> bool:
    """Whether each actor is to invert so many images that compiling its model pays.

    Of all shards, not of those that are left: a run that goes on goes on as it began.
    """
    sizes = [task.n_bytes for task in tasks]
    # A source that does not tell its size is taken for a large one.
    n_images = sum(WORTH_COMPILING if n is None else n / BYTES_PER_IMAGE for n in sizes)
    return n_images > WORTH_COMPILING * (cluster.n_actors or 1)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # run from a folder that Ray ships, not installed
        return "unknown"


def _pinned(config: RunConfig) -> RunConfig:
    """With the content that each address has now: what is hashed here is what workers load."""
    named = {name: getattr(config, name) for name in PATHS}
    pins: dict[str, Any] = {n: absolute_file(path) for n, path in named.items() if is_address(path)}
    return replace(config, **pins)


def _absolute(config: RunConfig) -> RunConfig:
    moved: dict[str, Any] = {name: absolute_file(getattr(config, name)) for name in PATHS}
    return replace(config, **moved)


def _require_memory(model: ReStyle | Bootstrap, config: RunConfig, n: int) -> None:
    """Refuse a batch that this machine cannot hold; Linux would kill the worker without a word."""
    largest = kinds.largest_map(model.generator.config)
    n_bytes = dtype_of(config.precision).itemsize
    needed = N_MAPS_ALIVE * largest * n_bytes * n
    available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > available:
        raise ConfigError(
            f"--batch-size {n} needs about {needed / 2**30:.0f} GiB for feature maps, but this "
            f"machine has {available / 2**30:.0f}; at most {int(n * available / needed)} fit"
        )
