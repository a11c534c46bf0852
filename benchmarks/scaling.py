"""What a run costs besides the model: the driver's time and memory, planning, an actor's peak memory.

    python -m benchmarks.scaling [--shards 100 1000 10000 100000] [--samples 500 2000 8000]

driver    driver.run on a Ray of this machine, with actors that answer at once.
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


class Costless:
    """Takes the place of the actor: a report at once."""

    def __init__(self, config: Any) -> None:
        pass

    def load(self) -> None:
        pass

    def n_rows(self) -> int:
        return 0

    def process(self, task: Any) -> Any:
        from pipeline.records import ShardReport

        return ShardReport(task, 1000, {"ok": 1000}, {"invert": 1.0}, "a node gpu 0 pid 1")


def driver(n: int) -> dict[str, float]:
    """Time and memory of the driver's process for n shards."""
    from pipeline import crew, plan, run
    from pipeline import driver as queue
    from pipeline.actor import ActorConfig
    from pipeline.config import ClusterConfig, RunConfig

    assert run  # everything that a real run imports
    crew.InversionActor = Costless  # type: ignore[misc,assignment]
    how = ClusterConfig(n_actors=2, gpus_per_actor=0)
    config = ActorConfig(RunConfig(), "out", {}, {}, 1, 0, 0)
    with queue.cluster(how):
        # The first shards start Ray's workers and are not counted.
        queue.run(_tasks(plan, 20, "warm"), config, how, lambda *_: None)
        tasks = _tasks(plan, n, "shards")
        before, cpu, thread, wall = (
            _resident("VmRSS"), time.process_time(), time.thread_time(), time.perf_counter()
        )  # fmt: skip
        summary = queue.run(tasks, config, how, lambda *_: None)
        after = time.perf_counter(), time.thread_time(), time.process_time(), _resident("VmRSS")
    assert summary.n_shards == n
    return {
        "n": n,
        "wall_ms_a_shard": (after[0] - wall) / n * 1e3,
        "driver_ms_a_shard": (after[1] - thread) / n * 1e3,
        "process_ms_a_shard": (after[2] - cpu) / n * 1e3,
        "growth_mb": after[3] - before,
        "growth_kb_a_shard": (after[3] - before) * 1024 / n,
    }


def _tasks(plan: Any, n: int, name: str) -> list[Any]:
    return [plan.task(f"s3://bucket/{name}/{i:06}.tar", "size=1 mtime_ns=1", RUN) for i in range(n)]


def planning(n: int) -> dict[str, float]:
    """Seconds of listing n shards, of finding those without a file, of writing the run's record."""
    from pipeline import plan

    with tempfile.TemporaryDirectory() as folder:
        shards, out = Path(folder) / "shards", Path(folder) / "out"
        shards.mkdir()
        for i in range(n):
            os.close(os.open(shards / f"{i:06}.tar", os.O_CREAT))
        plan.require_writable(str(out))
        plan.claim(str(out), {}, [], overwrite=False)
        start = time.perf_counter()
        tasks = plan.tasks([f"{shards}/*.tar"], RUN)
        listed = time.perf_counter()
        for task in tasks[: n // 2]:
            (out / task.output).touch()
        begun = time.perf_counter()
        left = plan.pending(tasks, str(out))
        pending = time.perf_counter()
        plan.claim(str(out), {}, tasks, overwrite=False)
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

    from pipeline import feed, reader, schema
    from pipeline.config import RunConfig
    from pipeline.schema import Row
    from pipeline.writer import ShardWriter

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
        settings = feed.AlignSettings("none", "largest", 256, 256)
        columns = schema.schema(RunConfig(align="none", metrics=()), 18, 512)
        before = _resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # forget the highest use so far
        writer = ShardWriter(folder, "s.parquet", "s.tar", columns)
        samples = reader.samples(str(path))
        while batch := list(islice(samples, 8)):
            faces = [face for sample in batch for face in feed.prepare(sample, settings)]
            latents = source.normal(size=(len(faces), 1, 18, 512)).astype(np.float32)
            writer.add([Row(f, f.status, None, x) for f, x in zip(faces, latents, strict=True)])
        writer.commit({})
        return {
            "n": n,
            "shard_mb": path.stat().st_size / MIB,
            "peak_mb": _resident("VmHWM") - before,
        }


MEASURES: dict[str, Callable[[int], dict[str, float]]] = {
    "driver": driver,
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
    parser.add_argument("--shards", type=int, nargs="*", default=[100, 1000, 10_000, 100_000])
    parser.add_argument("--plan", type=int, nargs="*", default=[100_000])
    parser.add_argument("--samples", type=int, nargs="*", default=[500, 2000, 8000])
    parser.add_argument("--measure", nargs=2, metavar=("WHAT", "N"), help="used by itself")
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(MEASURES[args.measure[0]](int(args.measure[1]))))
        return
    asked = {"driver": args.shards, "planning": args.plan, "actor": args.samples}
    record = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    record |= {what: [alone(what, n) for n in sizes] for what, sizes in asked.items() if sizes}
    RESULTS.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
