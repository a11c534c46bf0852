"""Settings of distillation, and the networks that it begins with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from encoders.inverter_file import load_inverter
from encoders.restyle import ReStyle
from encoders.unet import UNet, UNetConfig
from generators import Generator, GeneratorConfig
from generators.discriminator import STDDEV_GROUP


def _field(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class DistillationConfig:
    """Everything that decides the weights. The defaults are the demo's."""

    start_from: str | None = _field(None, "Inverter file to begin with instead of random weights.")
    resolution: int = _field(64, "Height and width of the images.")
    channels: tuple[int, ...] = _field(
        (128, 128, 128, 64, 32), "Feature maps of the generator at 4, 8, ... px."
    )
    z_dim: int = _field(76, "Length of the samples' .npy vectors.")
    w_dim: int = _field(128, "Width of a style vector.")
    n_mapping_layers: int = _field(4, "Layers of the mapping.")
    widths: tuple[int, ...] = _field((32, 48, 96, 160, 192), "Channels of the U-Net, finest first.")
    n_levels: int = _field(2, "Levels of the U-Net that have style heads.")
    discriminator_channels: tuple[int, ...] = _field(
        (96, 96, 64, 32, 16), "Feature maps of the discriminator at 4, 8, ... px."
    )
    batch_size: int = _field(12, "Images a batch on each worker.")
    n_direct: int = _field(
        4, "Images of a batch that are drawn from their z; the others are encoded."
    )
    n_steps: int = _field(2, "Residual steps of the encoded ones.")
    n_batches: int = _field(12_000, "Length of the run; the rates follow a cosine to its end.")
    generator_learning_rate: float = _field(1e-3, "Learning rate of the generator.")
    encoder_learning_rate: float = _field(7e-4, "Learning rate of the encoder.")
    discriminator_learning_rate: float = _field(1e-3, "Learning rate of the discriminator.")
    warm_up: int = _field(200, "Batches in which the rates rise.")
    ms_ssim: float = _field(0.4, "Weight of 1 - MS-SSIM.")
    l2: float = _field(1.0, "Weight of the mean squared error.")
    detail: float = _field(1.0, "Weight of differences where the target has much to see.")
    adversarial: float = _field(
        0.03, "Weight of the discriminator's opinion; 0 = no discriminator."
    )
    features: float = _field(0.5, "Weight of the distance in the discriminator's feature maps.")
    discriminator_start: int = _field(0, "Batch from which on there is a discriminator.")
    r1_gamma: float = _field(1.0, "R1 gamma, applied every 16 batches.")
    pull: float = _field(0.002, "Weight of the squared distance of latents to the mapping's w.")
    disturb: float = _field(0.25, "Share of the encoded images that the encoder sees disturbed.")
    ema_half_life: float = _field(3000.0, "Images after which an old weight counts half.")
    precision: str = _field("bf16", "fp32 or bf16: of encoder and synthesis in training.")
    seed: int = _field(0, "Of the initial weights and of all that is drawn at random.")

    def __post_init__(self) -> None:
        """Raises ValueError, with a sentence, for a setting that cannot be."""
        if self.precision not in ("fp32", "bf16"):
            raise ValueError(f"precision must be fp32 or bf16, not {self.precision!r}")
        if not 0 < self.n_direct < self.batch_size:
            raise ValueError(
                f"n_direct must be between 0 and the batch size, {self.batch_size}, not {self.n_direct}"
            )
        for n in (self.n_direct, self.batch_size - self.n_direct, self.batch_size):
            if self.adversarial and n > STDDEV_GROUP and n % STDDEV_GROUP:
                raise ValueError(
                    f"batch_size {self.batch_size} with n_direct {self.n_direct} gives the discriminator "
                    f"{n} images at once, which it compares in groups of {STDDEV_GROUP}; choose multiples"
                )


def new_model(config: DistillationConfig) -> ReStyle:
    """A generator without noise and a U-Net for it, random or from a file, ready to be trained."""
    if config.start_from is not None:
        model = load_inverter(config.start_from).train()
        found = model.generator.resolution, model.generator.config.z_dim
        if found != (config.resolution, config.z_dim):
            raise ValueError(
                f"{config.start_from} draws {found[0]} px from {found[1]} numbers; pass --resolution "
                f"{found[0]} --z-dim {found[1]}, and shards of that size"
            )
        return model
    generator = Generator(
        GeneratorConfig(
            resolution=config.resolution,
            channels=config.channels,
            z_dim=config.z_dim,
            w_dim=config.w_dim,
            n_mapping_layers=config.n_mapping_layers,
            mapping_lr_mul=1.0,
        )
    )
    for name, buffer in generator.synthesis.named_buffers():
        if name.endswith("noise"):
            buffer.zero_()  # its strength stays zero too: a small generator without noise
    shape = config.resolution, generator.n_styles, generator.w_dim
    unet = UNet(UNetConfig(*shape, widths=config.widths, n_levels=config.n_levels))
    return ReStyle(unet, generator, generator.latent_avg, (config.resolution, config.resolution))
