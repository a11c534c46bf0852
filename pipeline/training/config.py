"""What a training is given: its trainer, how its loop runs, and how it is spread over workers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.training.stream import StreamConfig

if TYPE_CHECKING:
    from torch import Tensor

    from generators.training.protocol import Validation

N_RESTARTS = 3  # of a group that lost a worker


class Trainer(Protocol):
    """What the loop drives: networks, their optimizers, and how one batch teaches them."""

    @property
    def input_size(self) -> tuple[int, int]: ...  # height and width of the images it takes
    def step(self, images: Tensor, z: Tensor | None = None) -> dict[str, float]: ...
    def validate(self, images: Tensor, z: Tensor | None = None) -> Validation: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...
    def save(self, path: Path, notes: str) -> None: ...


@dataclass(frozen=True)
class LoopConfig:
    """Everything about a training but the trainer."""

    out: str  # folder for checkpoints and logs, on storage that all workers share
    shards: tuple[str, ...]
    held_out: tuple[str, ...]  # shards to validate on
    n_batches: int  # length of the run
    batch_size: int  # images on each worker
    seed: int = 0
    align: str = "none"  # or "face"
    z_dim: int = 0  # of the vectors that samples carry as .npy; 0: none is wanted
    chunk: int = 2048  # samples shuffled together
    n_held_out: int = 64  # images to validate on
    validate_every: int = 500  # batches
    checkpoint_every: int = 500  # batches
    log_every: int = 20  # batches

    def stream(self, urls: tuple[str, ...], worker: int = 0, n_workers: int = 1) -> StreamConfig:
        fields = frozenset({"npy"} if self.z_dim else ())
        return StreamConfig(urls, self.seed, worker, n_workers, self.chunk, fields)


# Builds a trainer on a device; it travels to the workers.
Maker = Callable[[str], Trainer]


@dataclass(frozen=True)
class WorkersConfig:
    """How a training is spread out."""

    n_workers: int = 1
    gpus_per_worker: float | None = None  # None: 1 where there is one, else 0
    address: str | None = None  # of a Ray cluster; None starts Ray here
