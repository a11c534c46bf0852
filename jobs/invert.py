"""``restyle invert``: shards -> align -> invert -> Parquet."""

from __future__ import annotations

import sys
import time

import click

from jobs.options import BatchSize, words


@click.command(epilog="Example: restyle invert 'shards/{000..009}.tar' --out latents/ --steps 5")
@click.argument("shards", nargs=-1, required=True)
@click.option("--out", required=True, help="Folder, s3:// or gs:// prefix for the Parquet files.")
@click.option("--model", default="demo", show_default=True, help="Encoder checkpoint, or demo.")
@click.option("--then", help="Second checkpoint: the first takes one step, this one the others.")
@click.option("--generator", help="Generator file to use instead of the (last) checkpoint's own.")
@click.option("--steps", default=5, show_default=True, help="Passes of the residual loop.")
@click.option(
    "--align",
    type=click.Choice(["face", "none"]),
    default="face",
    show_default=True,
    help="face: detect and crop as FFHQ does. none: take images as they are.",
)
@click.option(
    "--faces",
    type=click.Choice(["largest", "all"]),
    default="largest",
    show_default=True,
    help="Rows for each image.",
)
@click.option(
    "--metrics",
    default="mse,psnr,ms_ssim,identity",
    show_default=True,
    help="Comma-separated, also lpips; empty for none.",
)
@click.option(
    "--identity-steps",
    type=click.Choice(["last", "all"]),
    default="last",
    show_default=True,
    help="Steps at which identity is measured.",
)
@click.option("--lpips-weights", help="For lpips: torchvision's alexnet or vgg16 file.")
@click.option("--lpips-heads", help="For lpips: its own weights, alex.pth or vgg.pth.")
@click.option("--identity-model", help="For identity: model_ir_se50.pth. Default: dlib's network.")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "tf32", "bf16", "fp16"]),
    default="fp32",
    show_default=True,
    help="Of the networks; latents stay float32.",
)
@click.option(
    "--batch-size",
    type=BatchSize(),
    metavar="N|auto",
    default="auto",
    show_default=True,
    help="Faces inverted together. auto: what fits on the GPU, at most 32; 8 on a CPU.",
)
@click.option(
    "--compile",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="auto: on a GPU, where a run is long enough to win back the minute it takes.",
)
@click.option(
    "--latents",
    type=click.Choice(["last", "all"]),
    default="last",
    show_default=True,
    help="all adds the latents of every step.",
)
@click.option(
    "--latent-dtype",
    type=click.Choice(["float32", "float16"]),
    default="float32",
    show_default=True,
)
@click.option("--save-images", is_flag=True, help="Keep aligned crops and reconstructions.")
@click.option(
    "--keep-fields",
    default="",
    help="Members of a sample that become columns: json, txt, cls, comma-separated. age=float says "
    "what a key of the json is, else its first values do.",
)
@click.option("--address", help="Ray cluster: auto or HOST:PORT. Default: start Ray here.")
@click.option(
    "--actors",
    type=click.IntRange(min=1),
    help="Default: one a GPU, or one a node without GPUs.",
)
@click.option("--gpus-per-actor", type=click.FloatRange(min=0), help="Default: 1 if there are any.")
@click.option("--overwrite", is_flag=True, help="Delete what another run left in --out.")
@click.option(
    "--retry-failed",
    is_flag=True,
    help="Also do again the finished shards with rows that are crashed or not_finite.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and stop.")
def invert(
    shards: tuple[str, ...],
    out: str,
    metrics: str,
    keep_fields: str,
    batch_size: int | None,
    compile: str,
    address: str | None,
    actors: int | None,
    gpus_per_actor: float | None,
    overwrite: bool,
    retry_failed: bool,
    dry_run: bool,
    **settings: str | int | bool | None,
) -> None:
    """Invert WebDataset SHARDS into a Parquet latent data set.

    SHARDS are local paths, globs, {000..009} ranges, folders, s3://, gs://, http(s):// URLs or
    pipe: commands. One Parquet file a shard; finished shards are skipped, so the same command
    continues a run that was stopped. A failed sample is a row with its status and error.
    """
    # The settings that say what is computed reach RunConfig under their own names.
    from pipeline.config import ClusterConfig, RunConfig

    config = RunConfig(metrics=words(metrics), keep_fields=words(keep_fields), **settings)  # type: ignore[arg-type]
    cluster = ClusterConfig(
        address=address,
        n_actors=actors,
        gpus_per_actor=gpus_per_actor,
        batch_size=batch_size,
        compile=compile,  # type: ignore[arg-type]
    )

    from jobs import console
    from pipeline.engine.run import execute
    from pipeline.inversion import run

    again = {"overwrite": overwrite, "retry_failed": retry_failed}
    plan = run.plan_inversion(shards, out, config, cluster, dry_run=dry_run, **again)
    console.print_labels(plan)
    if dry_run:
        console.print_plan(plan)
        return
    console.warn_of_concurrent_run(plan)
    start = time.monotonic()
    with console.ProgressBar(len(plan.pending)) as progress:
        summary = execute(plan, cluster, progress)
    console.print_summary(plan, summary, time.monotonic() - start)
    if summary.failures:
        sys.exit(1)
