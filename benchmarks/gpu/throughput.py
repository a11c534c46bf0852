"""Images/s: five steps, with copies of pixels in and latents out, and of images that lie on the device."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from benchmarks.gpu.bench import Bench, Way
from benchmarks.gpu.timing import repeated, synchronize
from generators.precision import Precision


def compiled(bench: Bench) -> None:
    """From the cache that the part `compile` filled; without it a minute each."""
    _rows(bench, "compiled", "compiled", bench.sizes.batches, bench.half, needs_s=25)


def graph(bench: Bench) -> None:
    """The loop in one CUDA graph, without a compiler."""
    _rows(bench, "graph", "graph", bench.sizes.batches, bench.precisions)


def eager(bench: Bench) -> None:
    _rows(bench, "eager", "eager", bench.sizes.batches, bench.precisions)


def reference(bench: Bench) -> None:
    """The published formulation; the published code, by torch's defaults, computes in tf32."""
    _rows(bench, "reference", "reference", bench.sizes.batches, _usual(bench), needs_s=6)


def sweep(bench: Bench) -> None:
    """The other batches, and the published formulation in the other precisions."""
    ways: Sequence[Way] = ("graph", "eager", "reference") if bench.is_gpu else ("eager",)
    for way in ways:
        _rows(bench, "sweep", way, bench.sizes.sweep, bench.precisions, needs_s=6)
    others = [precision for precision in bench.precisions if precision not in _usual(bench)]
    _rows(bench, "sweep", "reference", bench.sizes.batches, others, needs_s=6)


def _usual(bench: Bench) -> list[Precision]:
    """Precisions in which the published formulation is measured before anything else."""
    return [p for p in bench.precisions if p in ("tf32", "bf16")] or [*bench.precisions]


def _rows(
    bench: Bench,
    part: str,
    way: Way,
    batches: Sequence[int],
    precisions: Sequence[Precision],
    needs_s: float = 4,
) -> None:
    for batch in batches:
        for precision in precisions:
            of = {"way": way, "precision": precision, "batch": batch}
            bench.attempt(part, of, partial(measure, bench, way, precision, batch), needs_s)


def measure(bench: Bench, way: Way, precision: Precision, batch: int) -> dict[str, Any]:
    """One row."""
    exact, host, steps = bench.exact[:batch], bench.pixels[:batch], bench.sizes.steps
    n_styles, w_dim = exact.shape[1:]
    out = torch.empty(steps, batch, n_styles, w_dim, pin_memory=bench.is_gpu)
    with bench.running(way, precision) as model:
        on_device = host.to(bench.device)

        def with_copies() -> None:
            pixels = host.to(bench.device, non_blocking=True)
            out.copy_(model.invert_pixels(pixels, steps).latents, non_blocking=True)

        start = time.perf_counter()
        with_copies()
        synchronize(bench.device)
        first_s = time.perf_counter() - start
        seconds = {
            "copied": repeated(with_copies, bench.device, bench.sizes.repeat_s),
            "resident": repeated(
                lambda: model.invert_pixels(on_device, steps), bench.device, bench.sizes.repeat_s
            ),
        }
        # By the graph of the whole batch, where there is one.
        alone = model.invert_pixels(on_device[:1], steps).latents[-1].cpu()
        return {
            "images_per_s": {
                of: {name: batch / value for name, value in found.items()}
                for of, found in seconds.items()
            },
            "first_batch_s": first_s,
            "peak_gib": bench.peak_gib(),
            # Of the latents after the last step, to float32 step by step.
            "latents_off": (out[-1] - exact).abs().max().item(),
            "alone_off": (alone[0] - out[-1, 0]).abs().max().item(),
            "finite": bool(out.isfinite().all()),
        }
