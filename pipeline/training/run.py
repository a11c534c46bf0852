"""A training from its settings: checked here, then run in this process or on a group of Ray workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from generators import CheckpointError
from pipeline import storage
from pipeline.errors import ConfigError
from pipeline.training import state
from pipeline.training.config import LoopConfig, Maker, WorkersConfig
from pipeline.training.loop import train

# Settings that may change between two stretches of a run without changing what it learns.
MAY_DIFFER = frozenset({"out", "log_every", "checkpoint_every"})
SHARE_OF_ONE = 0.1  # of the samples of a single shard that is held out


@dataclass(frozen=True)
class Shards:
    """What is trained on, and what is validated on."""

    own: tuple[str, ...]
    held_out: tuple[str, ...] = ()
    share: float = 0.0  # of the samples that is held out, where both are the same shards


def find_shards(
    patterns: Sequence[str], held_out: Sequence[str] = (), share: float | None = None
) -> Shards:
    """Shards to train on and shards to validate on.

    Without a pattern for those or a share of the samples it is the last shard, or a share of the only one.

    Raises:
        ConfigError: nothing matches, every shard is held out, or both ways are asked for.
    """
    shards = tuple(storage.expand(patterns))
    if held_out:
        if share:
            raise ConfigError(
                "--held-out names shards and --held-out-share takes samples of all of them; pass one"
            )
        wanted = tuple(storage.expand(held_out))
        others = tuple(url for url in shards if url not in wanted)
        if not others:
            raise ConfigError("every shard is held out; pass other shards to train on")
        return Shards(others, wanted)
    if not share and len(shards) > 1:
        return Shards(shards[:-1], shards[-1:])
    return Shards(shards, shards, share or SHARE_OF_ONE)


def execute(
    make: Maker, config: LoopConfig, settings: Mapping[str, Any], workers: WorkersConfig, notes: str
) -> None:
    """Train, here or on a group of workers.

    Args:
        settings: what decides the weights; a folder of others is refused.

    Raises:
        ConfigError, CheckpointError, ValueError: one sentence that says what to do.
    """
    if storage.is_remote(config.out):
        raise ConfigError(
            f"training writes to a local folder, not to {storage.redact(config.out)}; pass "
            "one, and copy the result"
        )
    alone = workers.n_workers == 1 and workers.address is None
    with_gpu = alone and torch.cuda.is_available() and workers.gpus_per_worker != 0
    try:
        trainer = make("cuda:0" if with_gpu else "cpu")
    except CheckpointError:
        raise
    except ValueError as error:
        raise ConfigError(str(error)) from None
    folder = Path(config.out).resolve()
    state.claim(folder, {**settings, "n_workers": workers.n_workers}, MAY_DIFFER)
    if alone:
        train(trainer, config, notes)
        return
    del trainer  # made to be refused here, if it must be, and not by every worker
    from pipeline.training.workers import train_on_workers

    # Workers have other working directories.
    train_on_workers(make, replace(config, out=str(folder)), workers, notes)
