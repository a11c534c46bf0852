"""``restyle train distil``: a small generator and its encoder from a renderer."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any

import click

from encoders.training.distillation import DistillationConfig, DistillationTrainer
from jobs.train import flags


@click.command(epilog="Example: restyle train distil 'portraits/*.tar' --out generator/")
@flags.loop_options
@flags.of_dataclass(DistillationConfig)
def distil(**options: Any) -> None:
    """Train a generator and an encoder together on SHARDS whose samples carry their z (.npy).

    What made the demo's generator: `restyle portraits` writes such shards. The files in --out:
    last.safetensors (encoder and generator), last.generator.safetensors and
    last.discriminator.safetensors. The same command goes on where it was stopped.
    """
    config = flags.configured(DistillationConfig(), options)
    flags.start(partial(DistillationTrainer, config), asdict(config), options, config.z_dim)
