"""``restyle train distil``: a small generator and its encoder from a renderer."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any

from encoders.training.distillation import DistillationConfig, DistillationTrainer
from jobs import flags
from jobs.train.start import command, start


@command(
    "encoders.training.distillation:DistillationConfig",
    epilog="Example: restyle train distil 'portraits/*.tar' --out generator/",
)
def distil(shards: tuple[str, ...], out: str, **options: Any) -> None:
    """Train a generator and an encoder together on SHARDS whose samples carry their z (.npy).

    What made the demo's generator: `restyle portraits` writes such shards. The files in --out:
    last.safetensors (encoder and generator), last.generator.safetensors and
    last.discriminator.safetensors. Running the same command again resumes.
    """
    config = flags.build(DistillationConfig, options)
    start(partial(DistillationTrainer, config), asdict(config), shards, out, options, config.z_dim)
