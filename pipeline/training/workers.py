"""A group of workers that train together: Ray Train's TorchTrainer around the same loop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
import torch

from pipeline import cluster
from pipeline.config import ClusterConfig, ConfigError
from pipeline.training.loop import LoopConfig, train
from pipeline.training.run import N_RESTARTS, Maker, WorkersConfig


def train_on_workers(make: Maker, config: LoopConfig, how: WorkersConfig, notes: str) -> None:
    """Run :func:`loop.train` on every worker; a group that loses one goes on from the last checkpoint.

    Raises:
        ConfigError: Ray Train is not installed, no cluster answers, or the workers do not fit into it.
    """
    try:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer
    except ImportError as error:
        raise ConfigError(
            f"training on several workers needs Ray Train ({error}); pip install 'restyle-batch[train]'"
        ) from None
    config = replace(config, out=str(Path(config.out).resolve()))
    with cluster.cluster(ClusterConfig(address=how.address)):
        each = _gpus_each(how)
        _require_room(how.n_workers, each)
        trainer = TorchTrainer(
            _work,
            train_loop_config={"make": make, "config": config, "notes": notes},
            scaling_config=ScalingConfig(
                num_workers=how.n_workers,
                use_gpu=bool(each),
                resources_per_worker={"GPU": each} if each else {"CPU": 1},
            ),
            run_config=RunConfig(
                name="ray_train",
                storage_path=config.out,
                failure_config=FailureConfig(max_failures=N_RESTARTS),
            ),
        )
        trainer.fit()


def _work(arguments: dict[str, Any]) -> None:
    """One worker: its trainer on its device, and the loop."""
    from ray.train.torch import get_device

    device = get_device()
    if device.type == "cpu":
        torch.set_num_threads(max(1, int(ray.cluster_resources().get("CPU", 1)) // 2))
    train(arguments["make"](str(device)), arguments["config"], arguments["notes"])


def _gpus_each(how: WorkersConfig) -> float:
    if how.gpus_per_worker is not None:
        return how.gpus_per_worker
    return 1.0 if ray.cluster_resources().get("GPU", 0) else 0.0


def _require_room(n_workers: int, gpus_each: float) -> None:
    """Ray would wait for ever for what the cluster has not."""
    there = ray.cluster_resources()
    kind, each = ("GPU", gpus_each) if gpus_each else ("CPU", 1.0)
    if n_workers * each > there.get(kind, 0):
        raise ConfigError(
            f"{n_workers} workers want {n_workers * each:g} {kind}s, but the cluster has "
            f"{there.get(kind, 0):g}; pass fewer --workers"
        )
