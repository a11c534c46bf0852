"""``restyle train generator``: StyleGAN2 on shards."""

from __future__ import annotations

from functools import partial
from typing import Any

from generators.training.trainer import GeneratorTrainConfig, GeneratorTrainer
from jobs import flags
from jobs.train.start import command, start


@command(
    "generators.training.config:GeneratorTrainConfig",
    epilog="Example: restyle train generator 'shards/*.tar' --out gan/ --resolution 256",
)
def generator(shards: tuple[str, ...], out: str, **options: Any) -> None:
    """Train StyleGAN2 on the images of SHARDS.

    The files in --out: last.safetensors, for --generator and `restyle train encoder`, and
    last.discriminator.safetensors beside it; best.* are those of the least sliced Wasserstein
    distance to held-out images. Running the same command again resumes.
    """
    config = flags.build(GeneratorTrainConfig, options)
    start(partial(GeneratorTrainer, config), config.settings(), shards, out, options)
