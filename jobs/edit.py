"""``restyle edit``: latents moved along directions, on the engine that inverts."""

from __future__ import annotations

import sys
import time
from dataclasses import replace

import click

from jobs.options import drawing, numbers


@click.command(
    epilog="Example: restyle edit latents/ --out edited/ --direction smile.safetensors --strengths=-2,2"
)
@click.argument("latents")
@click.option("--out", required=True, help="Folder, s3:// or gs:// prefix for the edited rows.")
@click.option(
    "--direction",
    "directions",
    multiple=True,
    required=True,
    help="[NAME=][FACTOR*]FILE[:COMPONENT][@LAYERS], with sefa:COMPONENT or demo:NAME for a file too; terms "
    "joined by ' + '. May be given several times.",
)
@click.option(
    "--strengths", default="1", show_default=True, help="Comma-separated multiples of a direction."
)
@click.option(
    "--where", help="Only rows such as \"status == 'ok' and identity >= 0.6\". Default: all."
)
@click.option("--save-images", is_flag=True, help="Draw every edit into the column reconstruction.")
@drawing
@click.option("--address", help="Ray cluster: auto or HOST:PORT. Default: start Ray here.")
@click.option(
    "--actors",
    type=click.IntRange(min=1),
    help="Default: one a GPU with --save-images, else one a node.",
)
@click.option("--gpus-per-actor", type=click.FloatRange(min=0), help="Default: 1 where needed.")
@click.option("--overwrite", is_flag=True, help="Delete what another run left in --out.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and stop.")
def edit(
    latents: str,
    out: str,
    directions: tuple[str, ...],
    strengths: str,
    batch_size: int,
    address: str | None,
    actors: int | None,
    gpus_per_actor: float | None,
    overwrite: bool,
    dry_run: bool,
    **settings: str | bool | None,
) -> None:
    """Move every row of a LATENTS folder along directions; each edit is a row of --out.

    FILE is what `restyle learn-direction` wrote, InterFaceGAN's .pt or .npy, or GANSpace's .pt or .npz,
    of which COMPONENT names one. sefa takes the directions out of the generator's own weights. LAYERS
    such as 0-3,7 are counted from 0. A term's FACTOR is relative to the others: 'smile.pt + -0.5*age.pt'.

    The same command continues an edit that was stopped.
    """
    from pipeline.config import ClusterConfig
    from pipeline.editing.edit import EditConfig, plan_edit

    config = EditConfig(directions, numbers(strengths, "--strengths"), **settings)  # type: ignore[arg-type]
    cluster = ClusterConfig(
        address=address, n_actors=actors, gpus_per_actor=gpus_per_actor, batch_size=batch_size
    )
    if not config.save_images and gpus_per_actor is None:
        cluster = replace(cluster, gpus_per_actor=0)  # a sum of two vectors keeps no GPU

    from jobs.console import ProgressBar, print_plan, print_summary, warn_of_concurrent_run
    from pipeline.engine.run import execute

    plan = plan_edit(latents, out, config, cluster, overwrite=overwrite, dry_run=dry_run)
    if dry_run:
        print_plan(plan)
        return
    warn_of_concurrent_run(plan)
    start = time.monotonic()
    with ProgressBar(len(plan.pending), "editing") as progress:
        summary = execute(plan, cluster, progress)
    print_summary(plan, summary, time.monotonic() - start)
    if summary.failures:
        sys.exit(1)
