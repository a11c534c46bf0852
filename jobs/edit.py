"""``restyle edit``: latents moved along directions, on the engine that inverts."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from typing import Any

import click

from jobs import flags, paths


@flags.command(
    "pipeline.editing.edit:EditConfig",
    "pipeline.config:ClusterConfig",
    without=("compile", "least_speed", "shard_timeout"),
    epilog="Example: restyle edit latents/ --out edited/ --direction smile.safetensors --strengths=-2,2",
)
@click.argument("latents", type=paths.FOLDER)
@flags.out("Folder, s3:// or gs:// prefix for the edited rows.")
@flags.overwrite
@flags.dry_run
@flags.talk
def edit(latents: str, out: str, overwrite: bool, dry_run: bool, **options: Any) -> None:
    """Move every row of a LATENTS folder along directions; each edit is a row of --out.

    FILE is what `restyle learn-direction` wrote, InterFaceGAN's .pt or .npy, or GANSpace's .pt or .npz,
    of which COMPONENT names one. sefa takes the directions from the generator's own weights. LAYERS
    such as 0-3,7 are counted from 0. A term's FACTOR is relative to the others: 'smile.pt + -0.5*age.pt'.

    Without --save-images no GPU is used. Running the same command again resumes an edit that was stopped.
    """
    from pipeline.config import ClusterConfig
    from pipeline.editing.edit import EditConfig, plan_edit

    config = flags.build(EditConfig, options)
    cluster = replace(flags.build(ClusterConfig, options), batch_size=None)
    if not config.save_images and cluster.gpus_per_actor is None:
        cluster = replace(cluster, gpus_per_actor=0)  # a sum of two vectors needs no GPU

    from jobs.console import (
        print_found,
        print_plan,
        print_summary,
        warn_of_concurrent_run,
    )
    from jobs.progress import display
    from pipeline.engine.run import execute

    plan = plan_edit(latents, out, config, cluster, overwrite=overwrite, dry_run=dry_run)
    print_found(plan)
    if dry_run:
        print_plan(plan)
        return
    warn_of_concurrent_run(plan)
    start = time.monotonic()
    with display(len(plan.pending), "editing") as shown:
        summary = execute(plan, cluster, shown)
    print_summary(plan, summary, time.monotonic() - start)
    if summary.failures:
        sys.exit(1)
