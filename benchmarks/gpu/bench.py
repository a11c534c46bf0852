"""What the parts share: the device, the model, its pictures and exact latents, the record and the clock."""

from __future__ import annotations

import gc
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from benchmarks.gpu import model as models
from benchmarks.gpu import report, timing
from benchmarks.gpu.record import Record
from encoders import ReStyle
from encoders.execution import Execution, Plan
from generators.precision import Precision

Way = Literal["reference", "eager", "graph", "compiled"]


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    batches: tuple[int, ...] = (16, 1)  # of every part
    sweep: tuple[int, ...] = (8, 4, 32)  # of the last part
    steps: int = 5
    matrix: int = 8192  # side of the matrices of the ceilings
    copy_mib: int = 2048
    pairs: int = 80  # of pictures in one call of a metric: the steps of a batch of 16
    repeat_s: float = 0.4  # for which a measurement is repeated


SMALL = Sizes((2, 1), (3,), 5, 256, 8, 2, 0.02)


@dataclass
class Bench:
    """One session."""

    device: torch.device
    sizes: Sizes
    precisions: tuple[Precision, ...]
    record: Record
    clock: timing.Clock
    small: bool = False
    compiles: bool = True  # whether anything is compiled
    dlib_model: Path | None = None

    @property
    def is_gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def half(self) -> tuple[Precision, ...]:
        """The precisions that are compiled; the first one's stages are measured."""
        chosen = tuple(p for p in self.precisions if p in ("bf16", "fp16"))
        return chosen if self.is_gpu and chosen else self.precisions[:1]

    @cached_property
    def model(self) -> ReStyle:
        return (models.tiny if self.small else models.full)(self.device)

    @cached_property
    def pixels(self) -> Tensor:
        """[N, h, w, 3] uint8 in host memory, pinned for a GPU; enough for any batch."""
        n = max(4, *self.sizes.batches, *self.sizes.sweep)
        found = models.pixels(n, self.model.input_size)
        return found.pin_memory() if self.is_gpu else found

    @cached_property
    def exact(self) -> Tensor:
        """Latents [N, n_styles, w_dim] of all pictures after the last step: IEEE float32, step by step."""
        with self.running("eager", "fp32") as model:
            found = [
                model.invert_pixels(part.to(self.device), self.sizes.steps).latents[-1].cpu()
                for part in self.pixels.split(4)
            ]
        return torch.cat(found)

    @contextmanager
    def running(self, way: Way, precision: Precision) -> Iterator[ReStyle]:
        """The model, run that way. An exception where it falls back to step by step."""
        model = self.model.at(precision)
        plans = {
            "graph": Plan(graph=True),
            "compiled": Plan(inductor=True, graph=self.is_gpu),
        }
        model.execution = Execution(plans.get(way, "never"))
        model.generator.synthesis.reference = way == "reference"
        model.folds = way != "reference"  # as `load_inverter` does
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("error", message="compiling or capturing failed")
                yield model
        finally:
            model.generator.synthesis.reference = False
            model.folds = True
            model.execution = Execution()
            self.tidy()

    def tidy(self) -> None:
        """Give back what the last measurement held."""
        gc.collect()
        if "torch._dynamo" in sys.modules:
            torch.compiler.reset()  # else earlier shapes count as recompilations
        if self.is_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak_gib(self) -> float | None:
        """Most memory at once since the last measurement."""
        if not self.is_gpu:
            return None
        return torch.cuda.max_memory_allocated(self.device) / 2**30

    def attempt(
        self,
        part: str,
        of: dict[str, Any],
        measure: Callable[[], dict[str, Any]],
        needs_s: float = 3,
    ) -> None:
        """One row of a part: measured, failed with its error, or skipped for want of time."""
        if self.clock.left_s() < needs_s and not self.small:
            row = {**of, "skipped": f"needs about {needs_s:.0f} s, {self.clock.left_s():.0f} left"}
        else:
            start = time.monotonic()
            try:
                row = {**of, **measure()}
            except Exception as error:
                row = {**of, "failed": f"{type(error).__name__}: {str(error).strip()[:500]}"}
                self.tidy()
            row["took_s"] = round(time.monotonic() - start, 2)
        self.record.add(part, row)
        print(report.line(part, row), flush=True)
