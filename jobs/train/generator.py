"""``restyle train generator``: StyleGAN2 on shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from generators.training.config import PRESETS, GeneratorTrainConfig
from generators.training.trainer import GeneratorTrainer
from jobs import flags
from jobs.printing import say
from jobs.train.start import command, data_of, start
from pipeline.training.classes import Classes, count
from pipeline.training.classes import of_run as classes_of_run


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
@flags.flag(
    "--classes",
    metavar="cls|KEY",
    group="Data",
    help="Draw by class: the number in each sample's .cls, or what its .json says under KEY. They are "
    "counted before the training begins, which reads every shard once.",
)
def generator(
    shards: tuple[str, ...], out: str, preset: str, classes: str | None, **options: Any
) -> None:
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
    if config.class_names and classes is None:
        raise click.UsageError("--class-names are those of --classes: pass that too, cls or KEY")
    data, found = data_of(shards, options), None
    if classes is not None:
        names = config.class_names or _names(classes, data.own, Path(out))
        config, found = replace(config, class_names=names), Classes(classes, names)
    make = partial(GeneratorTrainer, config)
    start(make, config.settings(), data, out, options, classes=found)


def _names(source: str, urls: Sequence[str], out: Path) -> tuple[str, ...]:
    """The classes of a run that goes on, or else those that are counted now."""
    if (names := classes_of_run(out, source, urls)) is not None:
        return names
    counted = count(urls, source)
    say(str(counted))
    return tuple(counted.n_by_name)
