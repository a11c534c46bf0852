"""A run from shards to Parquet: rows a second, the time of each stage, and how long the device waited.

    python -m benchmarks.pipeline [--model FILE] [--precision bf16] [--photos 1000] [--no-overlap]
    python -m benchmarks.pipeline --stand-in auto

The first form runs the model on the GPU, or on the CPU. The second needs no GPU: the model sleeps so many
milliseconds for each image (`stand_in.py`). `auto` is as long as everything else takes, which is measured
first with a model that does not sleep. That is the hardest case, for neither side has time to spare: stages
that overlap come close to the slower of the two, stages one after the other take the sum. Real Ray, photos
of 1024 pixels, real Parquet, one shard and one actor; each round measures the rest alone before and after.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from PIL import Image

from benchmarks.stand_in import SHARD, TimedConfig
from pipeline import portraits
from pipeline.config import ClusterConfig, RunConfig
from pipeline.engine import driver, stopwatch
from pipeline.engine.actors import ActorPool
from pipeline.engine.cluster import connect
from pipeline.engine.run_folder import RunFolder
from pipeline.faces import images
from pipeline.inversion import run
from pipeline.shards import packing

RESULTS = Path(__file__).parent / "results" / "pipeline.json"
SIDE, N_RENDERED, SEED = 1024, 6, 0


def write_photos(folder: Path, n: int, side: int) -> None:
    """Rendered portraits and one real photo, as JPEGs, over and over."""
    folder.mkdir()
    parameters = portraits.sample(min(n, N_RENDERED), SEED)
    pictures = [images.to_u8(image) for image in portraits.render(parameters, side, "photo")]
    with (resources.files("pipeline.portraits") / "astronaut.jpg").open("rb") as file:
        photo = Image.open(file).convert("RGB")
        scale = side / max(photo.size)
        photo = photo.resize((round(photo.width * scale), round(photo.height * scale)))
    encoded = [*map(images.encode_jpeg, pictures), images.encode_jpeg(np.asarray(photo))]
    for i in range(n):
        (folder / f"{i:06}.jpg").write_bytes(encoded[i % len(encoded)])


class Bench:
    """One shard, run as often as asked, each time into a folder of its own."""

    def __init__(self, shard: str, folder: Path, config: RunConfig, cluster: ClusterConfig) -> None:
        self._shard, self._folder, self._config, self._cluster = shard, folder, config, cluster
        self._n = 0

    def measure(self, sleep_ms: float | None, n_ahead: int | None = None) -> dict[str, Any]:
        """Seconds of the shard and of its stages; n_ahead 0: one stage after the other."""
        self._n += 1
        out = str(self._folder / f"out{self._n}")
        plan = run.plan_inversion([self._shard], out, self._config, self._cluster)
        told = {**vars(plan.workers), "sleep_ms": sleep_ms}
        if n_ahead is not None:
            told["n_ahead"] = n_ahead
        workers = TimedConfig(**told)
        RunFolder(out).write_run_record(plan.settings, plan.tasks, overwrite=False)
        pool = ActorPool(workers, self._cluster)
        summary = driver.run(plan.pending, pool, workers.out, 1, lambda *_: None)
        assert not summary.failures, summary.failures
        assert set(summary.n_by_status) == {"ok"}, summary.n_by_status
        seconds = dict(summary.seconds)
        total = seconds.pop(SHARD)
        return {
            "rows": summary.n_rows,
            "seconds": total,
            "rows_per_s": summary.n_rows / total,
            "device_waited": stopwatch.waited(seconds),
            "stages_s": seconds,
        }


def compare(bench: Bench, sleep_ms: float | None, rounds: int) -> dict[str, Any]:
    """Overlapping stages and stages one after the other, beside the slower of model and everything else."""
    found = []
    for number in range(rounds):
        before = bench.measure(0.0)
        each_ms = sleep_ms or 1000 * before["seconds"] / before["rows"]
        overlapping = bench.measure(each_ms)
        serial = bench.measure(each_ms, n_ahead=0)
        after = bench.measure(0.0)
        # Other work on the machine only ever slows: the least is what the rest takes.
        rest = min(before["seconds"], after["seconds"])
        slowest = max(rest, each_ms * before["rows"] / 1000)
        one = {
            "sleep_ms": each_ms,
            "rest_s": [before["seconds"], after["seconds"]],
            "slowest_s": slowest,
            "overlapping": overlapping,
            "one_after_the_other": serial,
            "of_slowest": slowest / overlapping["seconds"],
            "of_slowest_without_overlap": slowest / serial["seconds"],
        }
        found.append(one)
        print(
            f"round {number + 1}: the rest alone {before['seconds']:.1f} and {after['seconds']:.1f} s, model "
            f"{each_ms * before['rows'] / 1000:.1f} s; overlapping {overlapping['seconds']:.1f} s "
            f"({one['of_slowest']:.0%} of the slowest stage), one after the other {serial['seconds']:.1f} s "
            f"({one['of_slowest_without_overlap']:.0%})",
            flush=True,
        )
    names = ("of_slowest", "of_slowest_without_overlap")
    medians = {name: statistics.median(one[name] for one in found) for name in names}
    return {**medians, "rounds": found}


def show(found: dict[str, Any]) -> None:
    """Rows a second, stages and the wait of one run."""
    print(f"{found['rows']} rows in {found['seconds']:.1f} s, {found['rows_per_s']:.1f} rows/s")
    print("busy: " + ", ".join(f"{name} {s:.1f} s" for name, s in found["stages_s"].items()))
    print(stopwatch.sentence(found["stages_s"]))


def device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="demo")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--align", default="face", choices=["face", "none"])
    parser.add_argument("--metrics", default="mse,psnr,ms_ssim,identity")
    parser.add_argument("--photos", type=int, default=400)
    parser.add_argument("--side", type=int, default=SIDE, help="of the photos, in pixels")
    parser.add_argument("--batch-size", type=int, help="default: what fits on the device")
    parser.add_argument("--compile", default="auto", choices=["auto", "always", "never"])
    parser.add_argument("--no-overlap", action="store_true", help="one stage after the other")
    parser.add_argument("--stand-in", metavar="MS|auto", help="the model sleeps")
    parser.add_argument("--rounds", type=int, default=3, help="with --stand-in")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    config = RunConfig(
        args.model,
        align=args.align,
        precision=args.precision,
        metrics=tuple(filter(None, args.metrics.split(","))),
    )
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_photos(root / "photos", args.photos, args.side)
        shard = packing.pack(str(root / "photos"), str(root / "%06d.tar"), args.photos).shards[0]
        cluster = ClusterConfig(n_actors=1, batch_size=args.batch_size, compile=args.compile)
        bench = Bench(shard, root, config, cluster)
        with connect(ClusterConfig()):
            bench.measure(0.0)  # CPU workers start, and load dlib's models
            if args.stand_in:
                sleep_ms = None if args.stand_in == "auto" else float(args.stand_in)
                name, found = "stand_in", compare(bench, sleep_ms, args.rounds)
                print(", ".join(f"{key} {found[key]:.0%}" for key in list(found)[:2]))
            else:
                name = f"{device_name()}, {Path(args.model).name}, {args.precision}, {args.compile}"
                found = bench.measure(None, 0 if args.no_overlap else None)
                show(found)
    found |= {"photos": args.photos, "side": args.side, "batch_size": args.batch_size}
    found |= {"cpus": os.cpu_count(), "ray": ray.__version__, "torch": torch.__version__}
    record = json.loads(args.out.read_text()) if args.out.exists() else {}
    args.out.write_text(json.dumps({**record, name: found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
