"""``restyle invert``: shards -> align -> invert -> Parquet."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import click

from jobs import flags

if TYPE_CHECKING:
    from pipeline.config import ClusterConfig
    from pipeline.engine.run import RunPlan


@flags.command(
    "pipeline.config:RunConfig",
    "pipeline.config:ClusterConfig",
    epilog="Example: restyle invert 'shards/{000..009}.tar' --out latents/ --steps 5",
)
@click.argument("shards", nargs=-1)
@flags.out("Folder, s3:// or gs:// prefix for the Parquet files.")
@flags.overwrite
@flags.flag(
    "--retry-failed",
    is_flag=True,
    group="Output",
    help="Also redo finished shards that have crashed or not_finite rows.",
)
@flags.flag(
    "--forget",
    multiple=True,
    metavar="SHARD",
    group="Output",
    help="Take back unfinished shards that were asked for: they are neither inverted nor missing. A path, a "
    "glob or @FILE; may be given several times, and alone.",
)
@flags.dry_run
@flags.talk
def invert(
    shards: tuple[str, ...],
    out: str,
    overwrite: bool,
    retry_failed: bool,
    forget: tuple[str, ...],
    dry_run: bool,
    **options: Any,
) -> None:
    """Invert WebDataset SHARDS into a Parquet latent data set.

    SHARDS are local paths, globs, {000..009} ranges, folders, s3://, gs://, http(s):// URLs, pipe:
    commands, or @FILE, a list with one of these a line. There is one Parquet file per shard. Finished
    shards are skipped, so running the same command again resumes a run that was stopped, also after its
    shards were moved (with their dates). A sample that fails is a row with its status and error.
    """
    from jobs import console
    from pipeline.config import ClusterConfig, RunConfig

    if not (shards or forget):
        raise click.UsageError("name the SHARDS to invert, such as 'shards/*.tar'")
    config = flags.build(RunConfig, options)
    cluster = flags.build(ClusterConfig, options)

    from pipeline.engine.run_folder import RunFolder
    from pipeline.inversion import run

    if forget and not overwrite:
        console.print_forgotten(RunFolder(out).forget(forget, dry_run), dry_run)
    if not shards:
        return
    plan = run.plan_inversion(
        shards,
        out,
        config,
        cluster,
        overwrite=overwrite,
        retry_failed=retry_failed,
        forget=forget,
        dry_run=dry_run,
    )
    console.print_labels(plan)
    console.print_found(plan)
    console.print_not_retried(plan)
    console.warn_of_demo_model(plan, config.model)
    if dry_run:
        console.print_plan(plan)
        return
    _execute(plan, cluster, config.model)


def _execute(plan: RunPlan, cluster: ClusterConfig, model: str) -> None:
    """Run a plan and show how it goes; status 1 if shards failed."""
    from jobs import console, progress
    from pipeline.engine.run import execute

    console.warn_of_concurrent_run(plan)
    start = time.monotonic()
    with progress.display(len(plan.pending)) as shown:
        summary = execute(plan, cluster, shown)
    console.print_summary(plan, summary, time.monotonic() - start)
    console.warn_of_demo_model(plan, model)
    if summary.failures:
        sys.exit(1)
