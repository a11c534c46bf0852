"""Settings of encoder training, and the presets: published recipes, and the demo's own."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from encoders.style_encoder import ENCODERS
from encoders.training.losses import LossConfig
from generators.discriminator import STDDEV_GROUP

UNET = "unet"
RANDOM = "random"


def _set(default: Any, meaning: str) -> Any:
    return field(default=default, metadata={"help": meaning})


@dataclass(frozen=True)
class EncoderTrainConfig(LossConfig):
    """Everything that decides the weights; the defaults are those of `compact` without its losses."""

    encoder: str = _set(UNET, f"unet, or a published class: {', '.join(ENCODERS)}")
    single_pass: bool = _set(False, "an encoder of the image alone, with one step, to compare with")
    widths: tuple[int, ...] = _set(
        (32, 48, 96, 160, 192), "channels of the U-Net at 1/1, 1/2, 1/4, ... of its input"
    )
    n_levels: int = _set(2, "levels of the U-Net, from the bottom up, with style heads")
    input_side: int = _set(256, "most pixels of the longer side of what the encoder sees")
    view_rows: tuple[int, ...] = _set((), "first row and end of the picture in what is drawn")
    view_columns: tuple[int, ...] = _set((), "the same for columns; cars: rows 64,448")
    backbone_weights: str | None = _set(
        None, "what a published encoder begins with: ArcFace's or torchvision's file, or `random`"
    )
    start_from: str | None = _set(None, "inverter whose encoder to begin with, in its own shape")
    generator_name: str | None = _set(
        None, "name of the generator (demo, or a path) for the saved file to hold instead of it"
    )

    n_batches: int = _set(10_000, "length of the run")
    batch_size: int = _set(16, "images of a batch, on each worker")
    accumulate: int = _set(1, "parts that a batch is computed in, to save memory")
    n_steps: int = _set(5, "residual steps of each batch")
    ramp: float = _set(0.0, "share of the run in which the steps grow from 2 to that many")
    init: str = _set("average", "where the loop starts: at the average latent, or at a random one")
    update_every_step: bool = _set(False, "an update for each residual step, not one a batch")
    progressive_start: int = _set(0, "batch that adds a second style to the first; 0 = all at once")
    progressive_every: int = _set(2000, "batches from each further style to the next")
    disturb: float = _set(0.0, "share of images that the encoder sees disturbed")
    flip: bool = _set(False, "mirror half of the images; their z is then of no use")

    optimizer: str = _set("adam", "adam or ranger")
    learning_rate: float = _set(1e-3, "of the optimizer")
    beta2: float = _set(0.99, "memory of Adam's second moment")
    warm_up: int = _set(0, "batches in which the learning rate rises to that")
    schedule: str = _set("constant", "of the learning rate: constant, or cosine down to 0")
    clip: float = _set(0.0, "most the norm of all gradients may be; 0 = any")
    precision: str = _set("fp32", "fp32 or bf16, of encoder and synthesis; losses are float32")
    ema_half_life: float = _set(0.0, "images after which old weights count half; 0 = no average")
    discriminator_learning_rate: float = _set(
        2e-5, "of Adam, for the image or the latent discriminator"
    )
    seed: int = _set(0, "of everything random")

    def __post_init__(self) -> None:
        """Raises ValueError, with a sentence, for a setting that cannot be."""
        for name, known in {
            "encoder": (UNET, *ENCODERS),
            "init": ("average", "random"),
            "optimizer": ("adam", "ranger"),
            "schedule": ("constant", "cosine"),
            "precision": ("fp32", "bf16"),
        }.items():
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}"
                )
        for name in ("n_batches", "batch_size", "accumulate", "n_steps", "progressive_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("disturb", "ramp"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share from 0 to 1, not {getattr(self, name)}")
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
