"""Seconds until the first batch is done when nothing is in inductor's cache, each in a process of its own.

They fill the cache, side by side, for the parts that need what is compiled. As a program: one of them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from typing import Any

import torch

from benchmarks.gpu import model as models
from benchmarks.gpu.bench import Bench
from benchmarks.gpu.record import ROOT
from benchmarks.gpu.timing import synchronize
from encoders.execution import Execution, Plan
from generators.precision import Precision

PART = "compile"
_CORES_EACH = 4


def run(bench: Bench) -> None:
    chosen = [(precision, batch) for batch in bench.sizes.batches for precision in bench.half]
    at_once = max(1, min(len(chosen), (os.cpu_count() or 1) // _CORES_EACH))
    shared = {"cache": "used" if _is_filled() else "empty", "at_once": at_once}
    for i in range(0, len(chosen), at_once):
        limit_s = max(30.0, 0.6 * bench.clock.left_s())
        children = [_Child(bench, *one) for one in chosen[i : i + at_once]]
        try:
            for child in children:
                bench.attempt(PART, child.of | shared, partial(child.result, limit_s), needs_s=0)
        finally:
            for child in children:
                child.process.kill()


def _is_filled() -> bool:
    folder = os.environ.get("TORCHINDUCTOR_CACHE_DIR", "")
    return os.path.isdir(folder) and bool(os.listdir(folder))


class _Child:
    """A process that compiles for one precision and batch."""

    def __init__(self, bench: Bench, precision: Precision, batch: int) -> None:
        self.of: dict[str, Any] = {"precision": precision, "batch": batch}
        # Files: a pipe that nobody reads would make it wait.
        self._out = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._err = tempfile.TemporaryFile("w+")  # noqa: SIM115
        command = [sys.executable, "-m", "benchmarks.gpu.compile", str(bench.device), precision]
        command += [str(batch), str(bench.sizes.steps), *["--small"] * bench.small]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=self._out, stderr=self._err)
        self._start = time.monotonic()

    def result(self, limit_s: float) -> dict[str, Any]:
        """What it prints, once it ends; waits until ``limit_s`` seconds after its start."""
        status = self.process.wait(max(0.0, self._start + limit_s - time.monotonic()))
        self._out.seek(0)
        self._err.seek(0)
        if status:
            raise RuntimeError(self._err.read().strip()[-500:])
        return json.loads(self._out.read().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, kind in (("device", torch.device), ("precision", str), ("batch", int)):
        parser.add_argument(name, type=kind)
    parser.add_argument("steps", type=int)
    parser.add_argument("--small", action="store_true")
    args = parser.parse_args()
    model = (models.tiny if args.small else models.full)(args.device).at(args.precision)
    pixels = models.pixels(1, model.input_size).to(args.device).expand(args.batch, -1, -1, -1)
    model.execution = Execution(Plan(inductor=True, graph=args.device.type == "cuda"))
    start = time.perf_counter()
    model.invert_pixels(pixels, args.steps)
    synchronize(args.device)
    if model.execution.used == "eager":
        sys.exit("it fell back to step by step")  # why stands in the warning above
    print(json.dumps({"first_batch_s": time.perf_counter() - start}))


if __name__ == "__main__":
    main()
