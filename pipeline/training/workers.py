"""A group of workers that train together: Ray Train's TorchTrainer around the same loop."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
import torch

from generators import CheckpointError
from generators.training.protocol import NotFinite
from pipeline.config import ClusterConfig
from pipeline.engine.cluster import connect
from pipeline.errors import ConfigError
from pipeline.training.config import N_RESTARTS, LoopConfig, Maker, WorkersConfig
from pipeline.training.loop import train
from pipeline.training.record import LOG, line_of

FOLLOW_S = 2.0  # between two looks at the log


def train_on_workers(make: Maker, config: LoopConfig, workers: WorkersConfig, notes: str) -> None:
    """Run :func:`loop.train` on every worker; a group that loses one goes on from the last checkpoint.

    Raises:
        ConfigError: Ray Train is not installed, no cluster answers, the workers do not fit into it, or
            they failed again and again.
        CheckpointError, NotFinite: what a worker said.
    """
    try:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer
    except ImportError as error:
        raise ConfigError(
            f"training on several workers needs Ray Train ({error}); pip install 'restyle-batch[train]'"
        ) from None
    with connect(ClusterConfig(address=workers.address)):
        each = _gpus_each(workers)
        _require_room(workers.n_workers, each)
        trainer = TorchTrainer(
            _work,
            train_loop_config={
                "make": make,
                "config": config,
                "notes": notes,
                "folder": os.getcwd(),
            },
            scaling_config=ScalingConfig(
                num_workers=workers.n_workers,
                use_gpu=bool(each),
                resources_per_worker={"GPU": each} if each else {"CPU": 1},
            ),
            run_config=RunConfig(
                name="ray_train",
                storage_path=config.out,
                failure_config=FailureConfig(max_failures=N_RESTARTS),
            ),
        )
        with _shown(Path(config.out) / LOG):
            try:
                trainer.fit()
            except Exception as error:  # Ray's own kinds, which hold those of the workers
                raise _of_workers(error) from None


def _work(arguments: dict[str, Any]) -> None:
    """One worker: its trainer on its device, and the loop."""
    from ray.train import get_context
    from ray.train.torch import get_device

    if os.path.isdir(arguments["folder"]):  # paths of checkpoints are read from there
        os.chdir(arguments["folder"])
    device = get_device()
    if device.type == "cpu":
        n_here = get_context().get_local_world_size()
        torch.set_num_threads(max(1, torch.get_num_threads() // n_here))
    train(arguments["make"](str(device)), arguments["config"], arguments["notes"])


def _of_workers(error: Exception) -> Exception:
    """The first worker's error that says what to do, or else Ray's."""
    failures = list(getattr(error, "worker_failures", {}).values())
    causes = [getattr(failure, "cause", failure) for failure in failures]
    for cause in causes:
        if isinstance(cause, ConfigError | CheckpointError | NotFinite):
            return cause
    lines = str(causes[0] if causes else error).strip().splitlines()
    return ConfigError(
        f"the workers failed {N_RESTARTS + 1} times: {lines[-1] if lines else type(error).__name__}; fix "
        "that and run the same command again"
    )


@contextmanager
def _shown(log: Path) -> Iterator[None]:
    """Print what the workers write into the log, while they do."""
    done = threading.Event()

    def follow() -> None:
        position = log.stat().st_size if log.exists() else 0
        ended = False
        while not ended:
            ended = done.wait(FOLLOW_S)
            if not log.exists():
                continue
            with log.open("rb") as file:
                file.seek(position)
                whole, newline, _ = file.read().rpartition(b"\n")
            position += len(whole + newline)
            for line in whole.splitlines():
                print(line_of(json.loads(line)), flush=True)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _gpus_each(workers: WorkersConfig) -> float:
    if workers.gpus_per_worker is not None:
        return workers.gpus_per_worker
    return 1.0 if ray.cluster_resources().get("GPU", 0) else 0.0


def _require_room(n_workers: int, gpus_each: float) -> None:
    """Ray would wait for ever for what the cluster has not."""
    resources = ray.cluster_resources()
    kind, each = ("GPU", gpus_each) if gpus_each else ("CPU", 1.0)
    if n_workers * each > resources.get(kind, 0):
        raise ConfigError(
            f"{n_workers} workers need {n_workers * each:g} {kind}s, but the cluster has "
            f"{resources.get(kind, 0):g}; pass fewer --workers"
        )
