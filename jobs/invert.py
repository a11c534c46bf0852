"""``restyle invert``: photos, in shards or where they lie -> align -> invert -> Parquet."""

from __future__ import annotations

import sys
import time
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import click

from jobs import flags, paths

if TYPE_CHECKING:
    from pipeline.clip_config import ClipConfig
    from pipeline.config import ClusterConfig
    from pipeline.engine.run import RunPlan


@flags.command(
    "pipeline.config:RunConfig",
    "pipeline.clip_config:ClipConfig",
    "pipeline.config:ClusterConfig",
    epilog="Example: restyle invert photos/ --out latents/ --steps 5",
)
@click.argument("inputs", nargs=-1, type=paths.FILE)
@flags.out("Folder, s3:// or gs:// prefix for the Parquet files.")
@flags.overwrite
@flags.flag(
    "--retry-failed",
    is_flag=True,
    group="Output",
    help="Also redo finished shards that have crashed or not_finite rows.",
)
@flags.flag(
    "--redo-changed",
    is_flag=True,
    group="Output",
    help="Redo finished shards that changed since (photos added, taken out or edited); their old rows go.",
)
@flags.flag(
    "--forget",
    multiple=True,
    metavar="SHARD",
    group="Output",
    help="Take back unfinished shards that were asked for: they are neither inverted nor missing. A path, a "
    "glob or @FILE; may be given several times, and alone.",
)
@flags.flag(
    "--video",
    is_flag=True,
    group="Clips",
    help="The samples are frames of clips (restyle pack clip.mp4): one face is followed through each, and "
    "landmarks and latents are averaged over time.",
)
@flags.dry_run
@flags.talk
def invert(
    inputs: tuple[str, ...],
    out: str,
    overwrite: bool,
    retry_failed: bool,
    redo_changed: bool,
    forget: tuple[str, ...],
    video: bool,
    dry_run: bool,
    **options: Any,
) -> None:
    """Invert photos into a Parquet latent data set.

    INPUTS are photos, folders of photos (with their subfolders), WebDataset tars, or Parquet files with a
    column of images (of Hugging Face, of img2dataset). They are named by paths, globs, {000..009} ranges and
    folders, tars and Parquet files also by s3://, gs:// and hf:// addresses, tars by http(s):// URLs and
    pipe: commands; @FILE is a list with one of these per line. A tar, a Parquet file and about 1,000 photos
    are a shard each, with one file of latents. Finished shards are skipped: the same command again resumes a
    run, also after shards were moved (with their dates). What fails is a row with its status and error.
    """
    from jobs import console
    from pipeline.config import ClusterConfig, RunConfig

    if not (inputs or forget):
        raise click.UsageError("name the INPUTS to invert, such as photos/ or 'shards/*.tar'")
    config = flags.build(RunConfig, options, clips=_clips(video, options))
    cluster = flags.build(ClusterConfig, options)

    from pipeline.inversion import run

    if forget and not overwrite:
        _forget(out, forget, dry_run)
    if not inputs:
        return
    plan = run.plan_inversion(
        inputs,
        out,
        config,
        cluster,
        overwrite=overwrite,
        retry_failed=retry_failed,
        redo_changed=redo_changed,
        forget=forget,
        dry_run=dry_run,
    )
    _tell(plan, config.model)
    if dry_run:
        console.print_plan(plan)
    else:
        _execute(plan, cluster)


def _forget(out: str, shards: tuple[str, ...], dry_run: bool) -> None:
    """Take back shards that were asked for."""
    from jobs import console
    from pipeline.engine.run_folder import RunFolder

    console.print_forgotten(RunFolder(out).forget(shards, dry_run), dry_run)


def _clips(video: bool, options: dict[str, Any]) -> ClipConfig | None:
    """How clips are followed, where there are any."""
    from pipeline.clip_config import ClipConfig
    from pipeline.errors import ConfigError

    if video:
        return flags.build(ClipConfig, options)
    for field in fields(ClipConfig):
        if options[field.name] is not None:
            option = field.metadata["flag"] or field.name.replace("_", "-")
            raise ConfigError(f"--{option} is for the frames of clips; add --video")
    return None


def _tell(plan: RunPlan, model: str) -> None:
    """What the user should know of a plan before it is carried out."""
    from jobs import console

    console.print_inputs(plan)
    console.print_labels(plan)
    console.print_found(plan)
    console.print_not_retried(plan)
    console.warn_of_demo_model(plan, model)


def _execute(plan: RunPlan, cluster: ClusterConfig) -> None:
    """Run a plan and show how it goes; status 1 if shards failed."""
    from jobs import console, progress
    from pipeline.engine.run import execute

    console.warn_of_concurrent_run(plan)
    start = time.monotonic()
    with progress.display(len(plan.pending)) as shown:
        summary = execute(plan, cluster, shown)
    console.print_summary(plan, summary, time.monotonic() - start)
    if summary.failures:
        sys.exit(1)
