"""``restyle demo``: the whole way once, on rendered portraits and embedded weights."""

from __future__ import annotations

import os
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path

import click

from jobs import paths
from jobs.printing import say
from jobs.values import Whole

PORTRAIT_SIZE = 256
# Far from the seeds that the demo model was trained on.
SEED = 20_261_124
SAMPLES_PER_SHARD = 13
# What is drawn of one portrait: a direction, how far along it, and what that makes.
EDITS = (
    ("smile", -5, "serious"),
    ("smile", 5, "smiling"),
    ("glasses", 2.5, "with glasses"),
    ("yaw", -2, "turned left"),
    ("yaw", 1.5, "turned right"),
    ("hair_lightness", -2, "dark hair"),
    ("hair_lightness", 2, "fair hair"),
)


@click.command(epilog="Example: restyle demo --out demo")
@click.option(
    "--out",
    type=paths.FOLDER,
    default="demo",
    show_default=True,
    help="Folder for everything that it writes.",
)
@click.option(
    "--portraits",
    type=Whole(1, 10_000),
    default=48,
    show_default=True,
    help="Number of portraits to render.",
)
def demo(out: str, portraits: int) -> None:
    """See it work: portraits -> shards -> align -> invert -> Parquet -> a page to look at.

    Runs on the CPU with weights that come with the package. The portraits are rendered and show no
    real person; the one photo is of the astronaut Eileen Collins (NASA, public domain).
    """
    from pipeline.storage import outputs

    folder = outputs.writable_folder(out)
    shards = folder / "shards"
    if shards.exists():
        say(f"using the shards in {shards}")
    else:
        say(f"rendering {portraits} portraits")
        _photos(folder / "photos", portraits)
        _pack(folder / "photos", shards)

    import torch

    from jobs.console import print_summary
    from jobs.progress import display
    from pipeline import report
    from pipeline.config import ClusterConfig, RunConfig
    from pipeline.engine.run import execute
    from pipeline.inversion import run

    config = RunConfig(latents="all", save_images=True, identity_steps="all")
    cluster = ClusterConfig()
    plan = run.plan_inversion([str(shards)], str(folder / "latents"), config, cluster)
    start = time.monotonic()
    with display(len(plan.pending)) as shown:
        summary = execute(plan, cluster, shown)
    print_summary(plan, summary, time.monotonic() - start)
    if summary.failures:
        sys.exit(1)
    torch.set_num_threads(1)  # pictures this small lose by more, on a busy machine tenfold
    report.write(str(folder / "latents"), folder / "report.html")
    _edit(folder / "latents", folder / "edited.jpg")
    say(
        f"open {folder / 'report.html'} in a browser; {folder / 'edited.jpg'} is one portrait, edited"
    )
    _say_what_is_next(folder)


def _say_what_is_next(folder: Path) -> None:
    say(
        "next, your own photos (restyle models: for real faces take a published checkpoint):",
        "  restyle invert photos/ --out latents/ --latents all --save-images",
        "  restyle report latents/ --out report.html",
        "many photos, on Ray (auto does so above a gigabyte; --address HOST:PORT joins a cluster):",
        "  restyle pack photos/ 'shards/%06d.tar'",
        "  restyle invert 'shards/*.tar' --out latents/ --executor ray",
        "and these portraits, edited:",
        f"  restyle edit {folder / 'latents'} --out edited/ --direction demo:smile --strengths=-3,0,3",
        "  restyle report edited/ --out edited.html",
    )


def _photos(folder: Path, n: int) -> None:
    import torch

    from pipeline import portraits
    from pipeline.faces import images

    folder.mkdir(parents=True, exist_ok=True)
    parameters = portraits.sample(n, SEED)

    def write(i: int) -> None:
        [picture] = portraits.render(parameters[i : i + 1], PORTRAIT_SIZE, "photo")
        (folder / f"portrait_{i:02}.jpg").write_bytes(images.encode_jpeg(images.to_u8(picture)))

    # One thread a portrait: several at one would wait for each other most of the time.
    with ThreadPoolExecutor(os.cpu_count(), "portraits", torch.set_num_threads, (1,)) as pool:
        list(pool.map(write, range(n)))
    astronaut = resources.files("pipeline.portraits") / "astronaut.jpg"
    (folder / "astronaut.jpg").write_bytes(astronaut.read_bytes())


def _edit(latents: Path, out: Path) -> None:
    """Draw the best inversion, moved along directions of the demo's generator."""
    import numpy as np

    from generators import directions
    from pipeline import LatentDataset
    from pipeline.editing.sheet import sheet
    from pipeline.faces import images
    from pipeline.models import LatentRenderer

    columns = ["latent", "mse", "aligned_image"]
    ds = LatentDataset(str(latents), where="status == 'ok'", columns=columns)
    row = min(ds, key=lambda row: float(row["mse"][-1]))
    latent = row["latent"].numpy()
    edited = [latent]
    for name, strength, _ in EDITS:
        step = directions.load(directions.demo_path(name), *latent.shape)
        edited.append(latent + strength * step.numpy())
    drawn = LatentRenderer(ds.footer).draw(np.stack(edited))
    words = ["aligned input", "inverted", *(word for _, _, word in EDITS)]
    picture = sheet(words, [[images.to_u8(row["aligned_image"]), *drawn]])
    out.write_bytes(images.encode_jpeg(picture))


def _pack(photos: Path, shards: Path) -> None:
    from pipeline.shards import packing

    # Renamed when complete: a demo that was stopped here begins again.
    part = shards.with_name("shards.part")
    shutil.rmtree(part, ignore_errors=True)
    packing.pack(str(photos), str(part / "%06d.tar"), SAMPLES_PER_SHARD)
    part.rename(shards)
