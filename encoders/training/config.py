"""Settings of encoder training, and the presets: published recipes, and the demo's own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from encoders.bound import require_limit
from encoders.style_encoder import ENCODERS
from encoders.training.losses import LossConfig
from generators.discriminator import STDDEV_GROUP
from generators.training.config import NETWORKS, OPTIMIZER, TRAINING, setting

UNET = "unet"
RANDOM = "random"


@dataclass(frozen=True)
class EncoderTrainConfig(LossConfig):
    """Everything that decides the weights; the defaults are those of `compact` without its losses."""

    encoder: str = setting(UNET, f"unet, or a published class: {', '.join(ENCODERS)}.", NETWORKS)
    single_pass: bool = setting(
        False, "Train an encoder of the image alone, with one step, to compare with.", NETWORKS
    )
    widths: tuple[int, ...] = setting(
        (32, 48, 96, 160, 192),
        "Channels of the U-Net at 1/1, 1/2, 1/4, ... of its input.",
        NETWORKS,
    )
    n_levels: int = setting(
        2, "Levels of the U-Net, from the bottom up, that have style heads.", NETWORKS
    )
    input_side: int = setting(
        256, "Largest height and width of what the encoder sees, in pixels.", NETWORKS
    )
    view_rows: tuple[int, ...] = setting(
        (), "First row of the picture inside what is drawn, and the row after its last.", NETWORKS
    )
    view_columns: tuple[int, ...] = setting(
        (), "The same for columns; of cars, the rows are 64,448.", NETWORKS
    )
    backbone_weights: str | None = setting(
        None,
        "What a published encoder starts from: ArcFace's or torchvision's file, or random.",
        NETWORKS,
    )
    start_from: str | None = setting(
        None, "Inverter file whose encoder to start from; its shape is kept.", NETWORKS
    )
    bound: float | None = setting(
        None,
        "Keep latents softly within so many standard deviations of W along each of its axes, in training "
        "and in the saved file; 0: no bound. Default: the bound of --start-from.",
        NETWORKS,
    )
    generator_name: str | None = setting(
        None,
        "Name of the generator (demo, or a path) that the saved file holds instead of its weights.",
        NETWORKS,
    )

    n_batches: int = setting(10_000, "Length of the run.", TRAINING)
    batch_size: int = setting(16, "Images per batch on each worker.", TRAINING)
    accumulate: int = setting(
        1, "Parts of a batch that are computed one after another, to save memory.", TRAINING
    )
    n_steps: int = setting(5, "Residual steps per batch.", TRAINING)
    ramp: float = setting(
        0.0, "Share of the run over which the steps grow from 2 to that number.", TRAINING
    )
    init: str = setting(
        "average", "Where the loop starts: average, or random for a random latent.", TRAINING
    )
    update_every_step: bool = setting(
        False, "Update the weights after each residual step, not once per batch.", TRAINING
    )
    progressive_start: int = setting(
        0, "Batch that adds a second style to the first; 0 trains all from the start.", TRAINING
    )
    progressive_every: int = setting(2000, "Batches from each further style to the next.", TRAINING)
    disturb: float = setting(0.0, "Share of the images that the encoder sees disturbed.", TRAINING)
    strange: float = setting(
        0.0,
        "Share of the images that are turned, stretched, moved and disturbed beyond what the generator can "
        "draw, and asked for as they then are.",
        TRAINING,
    )
    flip: bool = setting(False, "Mirror half of the images, which makes their z useless.", TRAINING)
    precision: str = setting(
        "fp32", "Of encoder and synthesis: fp32 or bf16; losses are float32.", TRAINING
    )
    ema_half_life: float = setting(
        0.0, "Images after which a weight counts half in the average; 0 keeps none.", TRAINING
    )
    seed: int = setting(0, "Of the first weights and of every random draw.", TRAINING)

    optimizer: str = setting("adam", "adam or ranger.", OPTIMIZER)
    learning_rate: float = setting(1e-3, "The optimizer's rate for the encoder.", OPTIMIZER)
    discriminator_learning_rate: float = setting(
        2e-5, "Adam's rate for the image or the latent discriminator.", OPTIMIZER
    )
    beta2: float = setting(0.99, "Decay of Adam's second moment.", OPTIMIZER)
    warm_up: int = setting(0, "Batches over which the learning rate rises.", OPTIMIZER)
    schedule: str = setting(
        "constant", "Of the learning rate: constant, or cosine down to 0.", OPTIMIZER
    )
    clip: float = setting(0.0, "Maximum gradient norm; 0 disables clipping.", OPTIMIZER)

    def __post_init__(self) -> None:
        """Raises ValueError, with a sentence, for a setting that cannot be."""
        for name, choices in {
            "encoder": (UNET, *ENCODERS),
            "init": ("average", "random"),
            "optimizer": ("adam", "ranger"),
            "schedule": ("constant", "cosine"),
            "precision": ("fp32", "bf16"),
        }.items():
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name} must be one of {', '.join(choices)}, not {getattr(self, name)!r}"
                )
        for name in ("n_batches", "batch_size", "accumulate", "n_steps", "progressive_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("disturb", "strange", "ramp"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share from 0 to 1, not {getattr(self, name)}")
        if self.disturb + self.strange > 1:
            raise ValueError(
                "disturb and strange are shares of the same images: at most 1 together"
            )
        if self.flip and self.pull:
            raise ValueError("a mirrored image has no z to pull to; pass --no-flip, or --pull 0")
        if self.accumulate > self.batch_size:
            raise ValueError(f"a batch of {self.batch_size} has no {self.accumulate} parts")
        for n in (self.batch_size // self.accumulate, -(-self.batch_size // self.accumulate)):
            if self.adversarial and n > STDDEV_GROUP and n % STDDEV_GROUP:
                raise ValueError(
                    f"the discriminator compares images in groups of {STDDEV_GROUP}; pass a batch size, or "
                    f"parts of it, of at most {STDDEV_GROUP} or a multiple, not {n}"
                )
        if self.bound:
            require_limit(self.bound)
        for name in ("view_rows", "view_columns"):
            if len(getattr(self, name)) not in (0, 2):
                raise ValueError(f"{name} must be a first pixel and an end, like 64,448")

    def n_steps_at(self, global_step: int) -> int:
        """Residual steps of the batch after `global_step`: two at first, when they teach most, soon all."""
        if self.single_pass:
            return 1
        progress = global_step / self.n_batches
        if progress >= self.ramp:
            return self.n_steps
        return min(self.n_steps, 2 + int(progress / self.ramp * max(self.n_steps - 2, 0)))

    def learning_rate_at(self, global_step: int) -> float:
        """That of the batch after `global_step`."""
        rate = self.learning_rate * min(1.0, (global_step + 1) / max(self.warm_up, 1))
        if self.schedule == "cosine":
            rate *= 0.5 + 0.5 * math.cos(math.pi * min(global_step / self.n_batches, 1.0))
        return rate

    def stage_at(self, global_step: int) -> int | None:
        """Styles beside the first that have an offset of their own in the next batch; None = all."""
        if not self.progressive_start:
            return None
        return max(0, 1 + (global_step - self.progressive_start) // self.progressive_every)


_PUBLISHED: dict[str, Any] = {
    "n_batches": 200_000,
    "batch_size": 8,
    "optimizer": "ranger",
    "learning_rate": 1e-4,
    "l2": 1.0,
    "lpips": 0.8,
    "identity": 0.1,
    "flip": True,
}

PRESETS = {
    # Alaluf et al. 2021 (arXiv 2104.02699), over pSp (arXiv 2008.00951).
    "restyle-psp": EncoderTrainConfig(encoder="BackboneEncoder", **_PUBLISHED),
    # The same over e4e (Tov et al. 2021, arXiv 2102.02766).
    "restyle-e4e": EncoderTrainConfig(
        encoder="ProgressiveBackboneEncoder",
        progressive_start=20_000,
        delta_norm=2e-4,
        latent_adversarial=0.1,
        **_PUBLISHED,
    ),
    "unet-adversarial": EncoderTrainConfig(
        widths=(32, 64, 128, 256, 512, 512),
        n_levels=4,
        vgg=0.8,
        adversarial=0.2,
        learning_rate=1e-4,
        beta2=0.999,
        discriminator_learning_rate=1e-4,
        n_batches=200_000,
        batch_size=8,
    ),
    "compact": EncoderTrainConfig(
        l1=1.0,
        detail=1.0,
        ms_ssim=0.4,
        l2=2.0,
        ramp=0.3,
        update_every_step=True,
        disturb=0.25,
        warm_up=100,
        schedule="cosine",
        clip=5.0,
        precision="bf16",
        ema_half_life=1000.0,
    ),
}
