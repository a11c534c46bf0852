"""Settings of distillation, and the networks that it begins with."""

from __future__ import annotations

from dataclasses import dataclass

from encoders.inverter_file import load_inverter
from encoders.restyle import ReStyle
from encoders.unet import UNet, UNetConfig
from generators import Generator, GeneratorConfig
from generators.discriminator import STDDEV_GROUP
from generators.training.config import LOSSES, NETWORKS, OPTIMIZER, TRAINING, setting


@dataclass(frozen=True)
class DistillationConfig:
    """Everything that decides the weights. The defaults are the demo's."""

    start_from: str | None = setting(
        None, "Inverter file to start from instead of random weights.", NETWORKS
    )
    resolution: int = setting(64, "Height and width of the images.", NETWORKS)
    channels: tuple[int, ...] = setting(
        (128, 128, 128, 64, 32), "Feature maps of the generator at 4, 8, ... px.", NETWORKS
    )
    discriminator_channels: tuple[int, ...] = setting(
        (96, 96, 64, 32, 16), "The same of the discriminator.", NETWORKS
    )
    z_dim: int = setting(76, "Length of the samples' .npy vectors.", NETWORKS)
    w_dim: int = setting(128, "Length of a style vector.", NETWORKS)
    n_mapping_layers: int = setting(4, "Fully connected layers of the mapping.", NETWORKS)
    widths: tuple[int, ...] = setting(
        (32, 48, 96, 160, 192), "Channels of the U-Net, finest first.", NETWORKS
    )
    n_levels: int = setting(2, "Levels of the U-Net that have style heads.", NETWORKS)
    n_batches: int = setting(12_000, "Length of the run.", TRAINING)
    batch_size: int = setting(12, "Images per batch on each worker.", TRAINING)
    n_direct: int = setting(
        4, "Images of a batch that are drawn from their z; the others are encoded.", TRAINING
    )
    n_steps: int = setting(2, "Residual steps of the encoded images.", TRAINING)
    disturb: float = setting(
        0.25, "Share of the encoded images that the encoder sees disturbed.", TRAINING
    )
    precision: str = setting(
        "bf16", "Of encoder and synthesis in training: fp32 or bf16.", TRAINING
    )
    ema_half_life: float = setting(
        3000.0, "Images after which a weight counts half in the average.", TRAINING
    )
    seed: int = setting(0, "Of the first weights and of every random draw.", TRAINING)
    ms_ssim: float = setting(0.4, "Weight of 1 - MS-SSIM.", LOSSES)
    l2: float = setting(1.0, "Weight of the mean squared error.", LOSSES)
    detail: float = setting(
        1.0, "Weight of absolute differences where the target is rich in detail.", LOSSES
    )
    adversarial: float = setting(
        0.03, "Weight of the discriminator's opinion; 0 disables the discriminator.", LOSSES
    )
    features: float = setting(
        0.5, "Weight of the distance between the discriminator's feature maps.", LOSSES
    )
    discriminator_start: int = setting(0, "Batch at which the discriminator starts.", LOSSES)
    r1_gamma: float = setting(1.0, "Weight of R1, every 16 batches.", LOSSES)
    pull: float = setting(
        0.002, "Weight of the squared distance of latents from the mapping's w.", LOSSES
    )
    generator_learning_rate: float = setting(1e-3, "Adam's rate for the generator.", OPTIMIZER)
    encoder_learning_rate: float = setting(7e-4, "Adam's rate for the encoder.", OPTIMIZER)
    discriminator_learning_rate: float = setting(
        1e-3, "Adam's rate for the discriminator.", OPTIMIZER
    )
    warm_up: int = setting(200, "Batches over which the rates rise; a cosine follows.", OPTIMIZER)

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
        # Without a bound: its axes are those of a W that does not move.
        model = load_inverter(config.start_from, bound=0).train()
        shape_of_file = model.generator.resolution, model.generator.config.z_dim
        if shape_of_file != (config.resolution, config.z_dim):
            raise ValueError(
                f"{config.start_from} draws {shape_of_file[0]} px from {shape_of_file[1]} numbers; pass "
                f"--resolution {shape_of_file[0]} --z-dim {shape_of_file[1]}, and shards of that size"
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
