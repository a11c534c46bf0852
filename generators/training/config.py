"""What a training of StyleGAN2 is asked to do, and the networks that it begins with."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch

from generators import Generator, GeneratorConfig, load_discriminator, load_stylegan2
from generators.discriminator import Discriminator, DiscriminatorConfig

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


# Headings that `--help` groups flags under.
DATA, NETWORKS, TRAINING = "Data", "Networks", "Training"
LOSSES, OPTIMIZER = "Losses", "Optimizer"


def setting(default: Any, text: str, group: str) -> Any:
    """A field that is a flag of a command, with its help and the heading above it."""
    return field(default=default, metadata={"help": text, "group": group})


@dataclass(frozen=True)
class GeneratorTrainConfig:
    """What is trained, and how; the defaults suit 256 px."""

    resolution: int = setting(256, "Height and width of the images, a power of two.", NETWORKS)
    channels: tuple[int, ...] = setting(
        (),
        "Feature maps of the generator at 4, 8, ... px. Default: the published widths.",
        NETWORKS,
    )
    discriminator_channels: tuple[int, ...] = setting(
        (), "The same of the discriminator. Default: the generator's.", NETWORKS
    )
    z_dim: int = setting(512, "Length of the normal vector that the mapping takes.", NETWORKS)
    w_dim: int = setting(512, "Length of a style vector.", NETWORKS)
    n_mapping_layers: int = setting(8, "Fully connected layers of the mapping.", NETWORKS)
    class_names: tuple[str, ...] = setting(
        (),
        "Classes in the order of the generator's labels, comma-separated, where --classes is not to count "
        "them; samples of others are left out.",
        DATA,
    )
    start_from: str | None = setting(
        None, "Generator file to start from; its shape is kept.", NETWORKS
    )
    discriminator_from: str | None = setting(None, "Discriminator file to start from.", NETWORKS)
    n_batches: int = setting(100_000, "Length of the run.", TRAINING)
    batch_size: int = setting(32, "Images per batch on each worker.", TRAINING)
    accumulate: int = setting(
        1, "Parts of a batch that are computed one after another, to save memory.", TRAINING
    )
    mixing: float = setting(
        0.9, "Share of the images whose styles come from two vectors.", TRAINING
    )
    flip: bool = setting(False, "Mirror half of the real images.", TRAINING)
    augment: bool = setting(
        False,
        "Change what the discriminator sees at random, the more the more it overfits (ADA, arXiv "
        "2006.06676); for sets below about 30,000 images.",
        TRAINING,
    )
    augment_target: float = setting(
        0.6,
        "Mean sign of the discriminator's scores of real images that augmentation aims at: 0 is a guess, 1 a "
        "set known by heart.",
        TRAINING,
    )
    augment_ramp: int = setting(
        100_000,
        "Images over which the probability of each change can rise from 0 to 1; the paper's is 500,000.",
        TRAINING,
    )
    precision: str = setting("fp32", "Precision of feature maps: fp32 or bf16.", TRAINING)
    ema_half_life: int = setting(
        10_000, "Images after which a weight counts half in the average.", TRAINING
    )
    ema_warm_up: float = setting(
        0.05, "Share of the images seen so far that the half-life is limited to.", TRAINING
    )
    seed: int = setting(0, "Of the first weights and of every random draw.", TRAINING)
    r1_gamma: float = setting(
        1.0, "Weight of R1 (1 at 256 px, 10 at 1024 px); 0 disables it.", LOSSES
    )
    r1_interval: int = setting(16, "Batches from one R1 to the next.", LOSSES)
    path_length_weight: float = setting(
        2.0, "Weight of the path length penalty; 0 disables it.", LOSSES
    )
    path_length_interval: int = setting(
        4, "Batches from one path length penalty to the next.", LOSSES
    )
    path_length_shrink: int = setting(
        2, "The path length is measured on one in so many images of a batch.", LOSSES
    )
    learning_rate: float = setting(2.5e-3, "Adam's rate for the generator.", OPTIMIZER)
    discriminator_learning_rate: float = setting(
        2e-3, "Adam's rate for the discriminator.", OPTIMIZER
    )
    clip: float = setting(0.0, "Maximum gradient norm; 0 disables clipping.", OPTIMIZER)

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be fp32 or bf16, not {self.precision!r}")
        path = ("path_length_interval", "path_length_shrink")
        for name in ("batch_size", "accumulate", "r1_interval", *path):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 <= self.augment_target < 1:
            raise ValueError(
                f"augment_target must be from 0 to below 1, not {self.augment_target:g}"
            )
        if self.augment_ramp < 1:
            raise ValueError(f"augment_ramp must be at least 1, not {self.augment_ramp}")
        if not self.divides(self.accumulate):
            raise ValueError(
                f"a batch of {self.batch_size} in {self.accumulate} parts: the discriminator compares "
                "images in groups of 4, so make each part at most 4 images or a multiple of 4"
            )

    def divides(self, n_parts: int) -> bool:
        """Whether a batch can be computed in so many parts."""
        part, remainder = divmod(self.batch_size, n_parts)
        return not remainder and (part <= 4 or not part % 4)

    def networks(self) -> tuple[Generator, Discriminator]:
        """Both networks on the CPU, from their files or with random weights that the seed decides.

        Raises:
            CheckpointError: a file that cannot be read.
            ValueError: sizes that do not fit, to each other or to the files.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            if self.start_from:
                generator = load_stylegan2(self.start_from)
                self._require_resolution(generator.resolution, self.start_from)
                self._require_classes(generator.config, self.start_from)
                if self.class_names:
                    generator.config = replace(generator.config, class_names=self.class_names)
            else:
                generator = Generator(self._shape())
            if self.discriminator_from:
                discriminator = load_discriminator(self.discriminator_from)
                self._require_resolution(discriminator.config.resolution, self.discriminator_from)
                self._require_classes(discriminator.config, self.discriminator_from)
            else:
                widths = self.discriminator_channels or generator.config.channels
                n_classes = len(self.class_names)
                by_class = (n_classes, self.n_mapping_layers) if n_classes else ()
                discriminator = Discriminator(
                    DiscriminatorConfig(self.resolution, widths, *by_class)
                )
        return generator.requires_grad_(True), discriminator.requires_grad_(True)

    def settings(self) -> dict[str, Any]:
        """What decides the weights; what older folders do not name, only where it is used."""
        unused = set() if self.augment else {"augment", "augment_target", "augment_ramp"}
        unused |= set() if self.class_names else {"class_names"}
        return {name: value for name, value in asdict(self).items() if name not in unused}

    def _shape(self) -> GeneratorConfig:
        sizes = {name: getattr(self, name) for name in ("z_dim", "w_dim", "n_mapping_layers")}
        sizes |= {"c_dim": len(self.class_names), "class_names": self.class_names}
        if self.channels:
            return GeneratorConfig(self.resolution, self.channels, **sizes)
        return GeneratorConfig.standard(self.resolution, **sizes)

    def _require_resolution(self, resolution: int, path: str) -> None:
        if resolution != self.resolution:
            raise ValueError(
                f"{path} is for {resolution} px and the training for {self.resolution} px; give both "
                "the same resolution"
            )

    def _require_classes(self, shape: GeneratorConfig | DiscriminatorConfig, path: str) -> None:
        n, names = len(self.class_names), getattr(shape, "class_names", ())
        if shape.c_dim != n:
            same = "start from a file of the same classes"
            advice = same if n else "pass --classes, or start from another file"
            raise ValueError(
                f"{path} is for {shape.c_dim or 'no'} classes and the training for {n or 'none'}; {advice}"
            )
        if names and names != self.class_names:
            raise ValueError(
                f"{path} has the classes {', '.join(names[:20])} and the training "
                f"{', '.join(self.class_names[:20])}; name those of the file, in its order: --class-names"
            )


PRESETS = {
    "stylegan2": GeneratorTrainConfig(),
    # About half a second of one core a batch.
    "cpu": GeneratorTrainConfig(
        resolution=64,
        channels=(96, 96, 96, 64, 32),
        z_dim=128,
        w_dim=128,
        n_mapping_layers=4,
        n_batches=10_000,
        batch_size=16,
        augment=True,
        augment_ramp=20_000,
        r1_gamma=2.0,  # at 0.1 the discriminator runs away within 50 batches
        path_length_interval=8,
        ema_half_life=5000,
    ),
}
