"""``restyle train generator``: StyleGAN2 on shards."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any

import click

from generators.training.trainer import GeneratorTrainConfig, GeneratorTrainer
from jobs.train import flags


@click.command(epilog="Example: restyle train generator 'shards/*.tar' --out gan/ --resolution 256")
@flags.loop_options
@flags.of_dataclass(GeneratorTrainConfig)
def generator(**options: Any) -> None:
    """Train StyleGAN2 on the images of SHARDS.

    The files in --out: last.safetensors, for --generator and `restyle train encoder`, and
    last.discriminator.safetensors beside it; best.* are those of the least sliced Wasserstein
    distance to held-out images. The same command goes on where it was stopped.
    """
    config = flags.configured(GeneratorTrainConfig(), options)
    flags.start(partial(GeneratorTrainer, config), asdict(config), options, z_dim=0)
