"""What a run costs besides the model: the driver's time and memory, planning, an actor's peak memory.

    python -m benchmarks.scaling [--ray 100 1000] [--shards 100 1000 10000 100000] [--samples 1000 4000]

ray       driver.run on a Ray of this machine, with two actors that answer at once.
many      the same with 64 actors.
driver    the same loop with Ray simulated (benchmarks/null_actor.py): 64 GPUs.
crowd     the same with 1,000 GPUs.
planning  100,000 shards against 50,000 finished ones, on a local disk.
actor     one shard from tar to Parquet without a model: reading, decoding, rows of 18 x 512 latents, writing.

Every measurement is a process of its own. Writes benchmarks/results/scaling.json.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "scaling.json"
RUN = "0123456789abcdef"
MIB = 2**20


def _resident(field: str) -> float:
    """MiB of this process as the kernel (Linux) counts them: VmRSS now, VmHWM at most."""
    found = re.search(rf"{field}:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def on_ray(n: int, n_actors: int = 2) -> dict[str, float]:
    """Time and memory of the driver's process for n shards, with Ray itself."""
    from pipeline.config import ClusterConfig
    from pipeline.engine.cluster import connect

    cluster = ClusterConfig(n_actors=n_actors, gpus_per_actor=0)
    with connect(cluster):
        return _measured(n, cluster, n_actors)


def simulated(n: int, n_gpus: int = 64) -> dict[str, float]:
    """The same of the loop alone: Ray answers at once, and costs nothing."""
    from benchmarks.null_actor import simulate
    from pipeline.config import ClusterConfig

    simulate(n_gpus)
    return _measured(n, ClusterConfig(), n_gpus)


def _measured(n: int, cluster: Any, n_actors: int) -> dict[str, float]:
    from benchmarks.null_actor import NullConfig
    from pipeline.engine import driver
    from pipeline.engine.actors import ActorPool

    def run(tasks: list[Any]) -> driver.Summary:
        return driver.run(tasks, ActorPool(config, cluster), config.out, 1, lambda *_: None)

    config = NullConfig(out="out", settings={})
    # The first shards start workers and are not counted.
    run(_tasks(20, "warm"))
    before = _resident("VmRSS")
    tasks = _tasks(n, "shards")
    wall, thread = time.perf_counter(), time.thread_time()
    summary = run(tasks)
    wall, thread = time.perf_counter() - wall, time.thread_time() - thread
    assert summary.n_shards == n
    growth = _resident("VmRSS") - before
    return {
        "n": n,
        "n_actors": n_actors,
        "wall_ms_a_shard": wall / n * 1e3,
        "driver_ms_a_shard": thread / n * 1e3,  # of one core: what others do meanwhile is left out
        "growth_mb": growth,
        "growth_kb_a_shard": growth * 1024 / n,
    }


def _tasks(n: int, name: str) -> list[Any]:
    from pipeline.engine import run_folder

    return [
        run_folder.task(f"s3://bucket/{name}/{i:06}.tar", "size=1 mtime_ns=1", RUN)
        for i in range(n)
    ]


def planning(n: int) -> dict[str, float]:
    """Seconds of listing n shards, of finding those without a file, of writing the run's record."""
    from pipeline.engine import run_folder
    from pipeline.engine.run_folder import RunFolder

    with tempfile.TemporaryDirectory() as folder:
        shards, out = Path(folder) / "shards", Path(folder) / "out"
        shards.mkdir()
        for i in range(n):
            os.close(os.open(shards / f"{i:06}.tar", os.O_CREAT))
        folder = RunFolder(str(out))
        folder.require_writable()
        folder.write_run_record({}, [], overwrite=False)
        start = time.perf_counter()
        tasks = run_folder.tasks([f"{shards}/*.tar"], RUN)
        listed = time.perf_counter()
        for task in tasks[: n // 2]:
            (out / task.output).write_bytes(b"PAR1" * 3)
        begun = time.perf_counter()
        left = folder.pending(tasks)
        pending = time.perf_counter()
        folder.write_run_record({}, tasks, overwrite=False)
        end = time.perf_counter()
    assert len(left) == n - n // 2
    return {
        "n": n,
        "tasks_s": listed - start,
        "pending_s": pending - begun,
        "claim_s": end - pending,
        "peak_mb": _resident("VmHWM"),
    }


def actor(n: int) -> dict[str, float]:
    """Peak memory of taking a shard of n photos of 256 px from tar to Parquet."""
    import numpy as np
    from PIL import Image

    from pipeline.config import RunConfig
    from pipeline.faces.prepare import AlignSettings, align_sample
    from pipeline.latents import schema
    from pipeline.latents.schema import Row
    from pipeline.latents.writer import ShardWriter
    from pipeline.shards import reader

    source = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        photo = io.BytesIO()
        Image.fromarray(source.integers(0, 256, (256, 256, 3), np.uint8)).save(photo, "JPEG")
        path = Path(folder) / "s.tar"
        with tarfile.open(path, "w") as tar:
            for i in range(n):
                info = tarfile.TarInfo(f"{i:06}.jpg")
                info.size = len(photo.getvalue())
                tar.addfile(info, io.BytesIO(photo.getvalue()))
                tar.members = []  # type: ignore[attr-defined]
        settings = AlignSettings("none", "largest", 256, 256)
        columns = schema.schema(RunConfig(align="none", metrics=()), 18, 512)
        before = _resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # forget the highest use so far
        writer = ShardWriter(folder, "s.parquet", "s.tar", columns)
        samples = reader.samples(str(path))
        while batch := list(islice(samples, 8)):
            faces = [face for sample in batch for face in align_sample(sample, settings)]
            latents = source.normal(size=(len(faces), 1, 18, 512)).astype(np.float32)
            writer.add([Row(f, f.status, None, x) for f, x in zip(faces, latents, strict=True)])
        writer.commit({})
        return {
            "n": n,
            "shard_mb": path.stat().st_size / MIB,
            "peak_mb": _resident("VmHWM") - before,
        }


MEASURES: dict[str, Callable[[int], dict[str, float]]] = {
    "ray": on_ray,
    "many": lambda n: on_ray(n, 64),
    "driver": simulated,
    "crowd": lambda n: simulated(n, 1000),
    "planning": planning,
    "actor": actor,
}


def alone(what: str, n: int) -> dict[str, float]:
    """One measurement in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.scaling", "--measure", what, str(n)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    found = json.loads(done.stdout.splitlines()[-1])
    print(f"{what:9}" + "".join(f"  {k} {v:.4g}" for k, v in found.items()), flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ray", type=int, nargs="*", default=[100, 1000])
    parser.add_argument("--many", type=int, nargs="*", default=[2000])
    parser.add_argument("--shards", type=int, nargs="*", default=[100, 1000, 10_000, 100_000])
    parser.add_argument("--crowd", type=int, nargs="*", default=[10_000])
    parser.add_argument("--plan", type=int, nargs="*", default=[100_000])
    parser.add_argument("--samples", type=int, nargs="*", default=[1000, 4000])
    parser.add_argument("--measure", nargs=2, metavar=("WHAT", "N"), help="used by itself")
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(MEASURES[args.measure[0]](int(args.measure[1]))))
        return
    asked = {
        "planning": args.plan,
        "driver": args.shards,
        "crowd": args.crowd,
        "actor": args.samples,
        "ray": args.ray,
        "many": args.many,
    }
    record = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for what, sizes in asked.items():
        if sizes:
            record[what] = [alone(what, n) for n in sizes]
            RESULTS.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
