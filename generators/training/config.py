"""What a training of StyleGAN2 is asked to do, and the networks that it begins with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from generators import Generator, GeneratorConfig, load_discriminator, load_generator
from generators.discriminator import Discriminator, DiscriminatorConfig

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def _field(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class GeneratorTrainConfig:
    """What is trained, and how; the defaults suit 256 px."""

    resolution: int = _field(256, "Height and width of the images, a power of two.")
    channels: tuple[int, ...] = _field(
        (), "Feature maps of the generator at 4, 8, ... px; none: the published widths."
    )
    discriminator_channels: tuple[int, ...] = _field(
        (), "Feature maps of the discriminator at 4, 8, ... px; none: the generator's."
    )
    z_dim: int = _field(512, "Length of the normal vector that the mapping takes.")
    w_dim: int = _field(512, "Length of a style vector.")
    n_mapping_layers: int = _field(8, "Fully connected layers of the mapping.")
    start_from: str | None = _field(None, "Generator file to begin with; its shape is kept.")
    discriminator_from: str | None = _field(None, "Discriminator file to begin with.")
    batch_size: int = _field(32, "Images a batch on each worker.")
    accumulate: int = _field(
        1, "Parts of a batch that are computed one after another, to save memory."
    )
    n_batches: int = _field(100_000, "Length of the run.")
    learning_rate: float = _field(2.5e-3, "Adam's rate of the generator.")
    discriminator_learning_rate: float = _field(2e-3, "Adam's rate of the discriminator.")
    r1_gamma: float = _field(1.0, "Weight of R1 (1 at 256 px, 10 at 1024 px); 0: none.")
    r1_interval: int = _field(16, "Batches from one R1 to the next.")
    path_length_weight: float = _field(2.0, "Weight of the path length penalty; 0: none.")
    path_length_interval: int = _field(4, "Batches from one path length penalty to the next.")
    path_length_shrink: int = _field(2, "One of so many images of a batch has its path measured.")
    mixing: float = _field(0.9, "Share of the images whose styles come from two vectors.")
    ema_half_life: int = _field(10_000, "Images after which a weight counts half in the average.")
    ema_warm_up: float = _field(0.05, "The half-life is at most this share of the images seen.")
    flip: bool = _field(False, "Mirror half of the real images.")
    precision: str = _field("fp32", "Precision of feature maps: fp32 or bf16.")
    clip: float = _field(0.0, "Largest norm of a gradient; 0: any.")
    seed: int = _field(0, "Decides the first weights and every random draw.")

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be fp32 or bf16, not {self.precision!r}")
        path = ("path_length_interval", "path_length_shrink")
        for name in ("batch_size", "accumulate", "r1_interval", *path):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        part, left = divmod(self.batch_size, self.accumulate)
        if left or (part > 4 and part % 4):
            raise ValueError(
                f"a batch of {self.batch_size} in {self.accumulate} parts: the discriminator compares "
                "images in groups of 4, so make each part at most 4 images or a multiple of 4"
            )

    def networks(self) -> tuple[Generator, Discriminator]:
        """Both networks on the CPU, from their files or with random weights that the seed decides.

        Raises:
            CheckpointError: a file that cannot be read.
            ValueError: sizes that do not fit, to each other or to the files.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            if self.start_from:
                generator = load_generator(self.start_from)
                self._require_resolution(generator.resolution, self.start_from)
            else:
                generator = Generator(self._shape())
            if self.discriminator_from:
                discriminator = load_discriminator(self.discriminator_from)
                self._require_resolution(discriminator.config.resolution, self.discriminator_from)
            else:
                widths = self.discriminator_channels or generator.config.channels
                discriminator = Discriminator(DiscriminatorConfig(self.resolution, widths))
        return generator.requires_grad_(True), discriminator.requires_grad_(True)

    def _shape(self) -> GeneratorConfig:
        sizes = {name: getattr(self, name) for name in ("z_dim", "w_dim", "n_mapping_layers")}
        if self.channels:
            return GeneratorConfig(self.resolution, self.channels, **sizes)
        return GeneratorConfig.standard(self.resolution, **sizes)

    def _require_resolution(self, found: int, path: str) -> None:
        if found != self.resolution:
            raise ValueError(
                f"{path} is for {found} px and the training for {self.resolution} px; give both the same "
                "resolution"
            )
