"""``restyle train distil``: a small generator and its encoder from a renderer."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any

import click

from encoders.training.distillation import DistillationConfig, DistillationTrainer
from jobs import flags
from jobs.train.start import command, data_of, start
from pipeline.training.config import RenderConfig
from pipeline.training.rendered import shards as shards_of
from pipeline.training.run import Shards


@command(
    "pipeline.training.config:RenderConfig",
    "encoders.training.distillation:DistillationConfig",
    needs_shards=False,
    epilog="Example: restyle train distil 'portraits/*.tar' --out generator/",
)
def distil(shards: tuple[str, ...], out: str, **options: Any) -> None:
    """Train a generator and an encoder together on SHARDS whose samples carry their z (.npy).

    What made the demo's generator: `restyle portraits` writes such shards, or --render draws the same
    portraits as they are needed. The files in --out: last.safetensors (encoder and generator),
    last.generator.safetensors and last.discriminator.safetensors. Running the same command again
    resumes.
    """
    config = flags.build(DistillationConfig, options)
    rendered = flags.build(RenderConfig, options)
    if not rendered.render and not shards:
        raise click.UsageError(
            "name the SHARDS to train on, or pass --render to draw the portraits"
        )
    of_shards = shards, options["held_out"], options["held_out_share"], options["align"] == "face"
    if rendered.render and any(of_shards):
        raise click.UsageError(
            "--render draws portraits instead of reading them: leave out SHARDS, --held-out, "
            "--held-out-share and --align"
        )
    make, drawn = partial(DistillationTrainer, config), rendered if rendered.render else None
    data = Shards(shards_of(drawn)) if drawn else data_of(shards, options)
    start(make, asdict(config), data, out, options, config.z_dim, drawn)
