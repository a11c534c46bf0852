"""``restyle train generator``: StyleGAN2 on shards."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from generators.training.config import PRESETS, GeneratorTrainConfig
from generators.training.trainer import GeneratorTrainer
from jobs import flags
from jobs.train.start import command, start


@command(
    "generators.training.config:PRESETS",
    epilog="Example: restyle train generator 'shards/*.tar' --out gan/ --resolution 256",
)
@flags.flag(
    "--preset",
    type=click.Choice(list(PRESETS)),
    default="stylegan2",
    show_default=True,
    help="The recipe, which the flags below change; with --help it shows its values.",
)
def generator(shards: tuple[str, ...], out: str, preset: str, **options: Any) -> None:
    """Train StyleGAN2 on the images of SHARDS.

    \b
    stylegan2   the published sizes, for a GPU
    cpu         64 px in an hour or two on two cores, with augmentation

    A few hundred images: --augment, and --start-from a generator of the same shape if you have one.
    The files in --out: last.safetensors, for --generator and `restyle train encoder`, and
    last.discriminator.safetensors beside it; best.* are those of the least sliced Wasserstein
    distance to held-out images. Running the same command again resumes.
    """
    config = flags.build(GeneratorTrainConfig, options, PRESETS[preset])
    start(partial(GeneratorTrainer, config), config.settings(), shards, out, options)
