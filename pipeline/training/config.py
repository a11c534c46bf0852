"""What a training is given: its trainer, how its loop runs, and how it is spread over workers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pipeline.config import CLUSTER, setting
from pipeline.errors import ConfigError
from pipeline.training.classes import Classes
from pipeline.training.stream import StreamConfig

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from generators.training.memory import Need
    from generators.training.protocol import Validation

DATA, RENDERING, RUN = "Data", "Rendering", "Run"  # headings of `--help`
N_RESTARTS = 3  # of a group that lost a worker


class Trainer(Protocol):
    """What the loop drives: networks, their optimizers, and how one batch teaches them."""

    @property
    def input_size(self) -> tuple[int, int]: ...  # height and width of the images it takes
    @property
    def device(self) -> torch.device: ...
    def need(self) -> Need | None: ...  # memory of a batch; None: not known
    def step(
        self, images: Tensor, z: Tensor | None = None, labels: Tensor | None = None
    ) -> dict[str, float]: ...
    def validate(
        self, images: Tensor, z: Tensor | None = None, labels: Tensor | None = None
    ) -> Validation: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...
    def save(self, path: Path, notes: str) -> None: ...
    def effort_at(self, global_step: int) -> float: ...  # of the batch after so many, to compare


@dataclass(frozen=True)
class RenderConfig:
    """Which portraits are drawn in place of those of shards."""

    render: bool = setting(
        False,
        "Draw the portraits as they are needed, on the device that trains, instead of reading SHARDS: "
        "the same ones as those of `restyle portraits`.",
        RENDERING,
    )
    n_portraits: int = setting(60_000, "How many different ones.", RENDERING, least=1)
    portraits_seed: int = setting(
        41,
        "Seed of the portraits to train on, as of `restyle portraits --seed`.",
        RENDERING,
        least=0,
    )
    held_out_seed: int = setting(
        90, "Seed of the portraits to validate on; another one.", RENDERING, least=0
    )

    def __post_init__(self) -> None:
        if self.portraits_seed == self.held_out_seed:
            raise ConfigError(
                f"--held-out-seed must differ from --portraits-seed, which is {self.portraits_seed} too"
            )


@dataclass(frozen=True)
class LoopConfig:
    """Everything about a training but the trainer."""

    out: str  # folder for checkpoints and logs, on storage that all workers share
    shards: tuple[str, ...]
    held_out: tuple[str, ...] = setting(
        (), "Shards to validate on. Default: the last of several shards.", DATA, many=True
    )
    held_out_share: float = setting(
        0.0,
        "Share of the samples to validate on instead, chosen by a hash of their keys. Default: 0.1 of a "
        "single shard.",
        DATA,
        least=0,
    )
    # The next three are settings of the trainer.
    n_batches: int = 1
    batch_size: int = 1  # images on each worker
    seed: int = 0
    z_dim: int = 0  # of the vectors that samples carry as .npy; 0: none is wanted
    classes: Classes | None = None  # of a generator that draws by class
    rendered: RenderConfig | None = None  # what is drawn instead of reading shards
    n_held_out: int = setting(64, "Images to validate on.", DATA, least=1)
    align: Literal["none", "face"] = setting(
        "none", "none: the images are aligned already. face: align each as it is read.", DATA
    )
    chunk: int = setting(
        2048, "Samples shuffled together, held in memory as they are stored.", DATA, least=1
    )
    validate_every: int = setting(500, "Batches between validations.", RUN, least=1)
    checkpoint_every: int = setting(500, "Batches between checkpoints.", RUN, least=1)
    checkpoint_minutes: float = setting(
        10.0, "Minutes after which a checkpoint is made, whatever the batches.", RUN, least=0
    )
    log_every: int = setting(20, "Batches between lines of the log.", RUN, least=1)

    def __post_init__(self) -> None:
        if self.held_out_share >= 1:
            raise ConfigError(
                f"--held-out-share must be below 1, or nothing is trained on, not {self.held_out_share:g}"
            )

    def stream(self, urls: tuple[str, ...], worker: int = 0, n_workers: int = 1) -> StreamConfig:
        """What one worker reads of these shards to train on."""
        fields = frozenset({"npy"} if self.z_dim else ())
        fields |= {self.classes.field} if self.classes else set()
        share = self.held_out_share
        return StreamConfig(urls, self.seed, worker, n_workers, self.chunk, fields, share)

    def held_out_stream(self) -> StreamConfig:
        """What is read to validate on."""
        return replace(self.stream(self.held_out), held_out=True)


# Builds a trainer on a device; it travels to the workers.
Maker = Callable[[str], Trainer]


@dataclass(frozen=True)
class WorkersConfig:
    """How a training is spread out."""

    n_workers: int = setting(
        1, "Ray workers, each with a copy of the networks.", CLUSTER, flag="workers", least=1
    )
    gpus_per_worker: float | None = setting(None, "Default: 1 if there are any, else 0.", CLUSTER)
    address: str | None = setting(
        None, "Ray cluster: auto or HOST:PORT. Default: start Ray here.", CLUSTER
    )
