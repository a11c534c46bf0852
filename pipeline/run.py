"""A run from its settings: everything that can be refused is refused before Ray starts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import torch

from encoders import Bootstrap, ReStyle
from pipeline import driver, plan
from pipeline.actor import ActorConfig, checkpoint_hashes, load_model
from pipeline.config import PATHS, ClusterConfig, ConfigError, RunConfig
from pipeline.driver import Progress, Summary
from pipeline.records import ShardTask
from pipeline.scoring import Scorer

# Libraries whose version can change a number in the output.
RECORDED = ("restyle-batch", "torch", "numpy", "pillow", "dlib-bin", "pyarrow")
# Feature maps of the last layer alive at once: input, convolution, noise and activation.
N_MAPS_ALIVE = 4


@dataclass(frozen=True)
class Prepared:
    """A run that may start."""

    config: RunConfig
    out: str
    asked: list[ShardTask]
    left: list[ShardTask]  # those without a committed file
    identity: dict[str, Any]  # settings and checkpoint hashes


def prepare(
    shards: Sequence[str],
    out: str,
    config: RunConfig,
    how: ClusterConfig,
    *,
    overwrite: bool = False,
    dry_run: bool = False,
) -> Prepared:
    """Check input, checkpoint and output; claim the output folder unless ``dry_run``.

    Raises:
        ConfigError, CheckpointError: one sentence that says what to do.
    """
    asked = plan.tasks(shards)
    model = load_model(config, "cpu")
    if how.address is None and not torch.cuda.is_available():
        _require_memory(model, how.batch_size)
    identity = {**config.settings(), **checkpoint_hashes(model), **Scorer(config).hashes()}
    if not dry_run:
        driver.require_reachable(how.address)
        plan.claim(out, identity, overwrite)
        plan.record_shards(out, asked)
    return Prepared(config, out, asked, plan.pending(asked, out), identity)


def execute(prepared: Prepared, how: ClusterConfig, progress: Progress) -> Summary:
    """Invert what is left; rows are committed shard by shard as it goes.

    Raises:
        ConfigError, RunError: see :func:`driver.run`.
    """
    if not prepared.left:
        return Summary()
    config = ActorConfig(
        run=_absolute(prepared.config),
        out=prepared.out if "://" in prepared.out else os.path.abspath(prepared.out),
        identity=prepared.identity,
        versions={name: version(name) for name in RECORDED},
        batch_size=how.batch_size,
        n_in_flight=0,  # these two are set by the driver, from the cluster's size
        n_threads=0,
    )
    with driver.cluster(how):
        return driver.run(prepared.left, config, how, progress)


def _absolute(config: RunConfig) -> RunConfig:
    """Workers have another working directory."""
    given = {name: getattr(config, name) for name in PATHS}
    moved = {
        name: path if path in (None, "demo") else os.path.abspath(path)
        for name, path in given.items()
    }
    return replace(config, **moved)


def _require_memory(model: ReStyle | Bootstrap, batch_size: int) -> None:
    """Refuse a batch that this machine cannot hold; Linux would kill the worker without a word."""
    config = model.generator.config
    sizes = [4 * 2**level for level in range(config.n_blocks)]
    largest = max(c * s * s for c, s in zip(config.channels, sizes, strict=True))
    n_bytes = model.generator.synthesis.compute_dtype.itemsize
    needed = N_MAPS_ALIVE * largest * n_bytes * batch_size
    available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > available:
        raise ConfigError(
            f"--batch-size {batch_size} needs about {needed / 2**30:.0f} GiB for feature maps, this "
            f"machine has {available / 2**30:.0f}; at most {int(batch_size * available / needed)} fit"
        )
