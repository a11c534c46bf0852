"""Milliseconds of one step by stage and by kernel, beside the floors."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu import ceilings, floors, kernels
from benchmarks.gpu.bench import Bench, Way
from benchmarks.gpu.timing import captured, repeated
from encoders.execution import compiled
from encoders.loop import Networks
from generators.precision import Precision, dtype_of, float32_products

_TOP = 15
STAGES = ("encoder", "generator")


def run(bench: Bench) -> None:
    _ = bench.exact  # now: it sets the model's precision
    precision = bench.half[0]
    ways: list[Way] = ["compiled", "eager"] if bench.compiles else ["eager"]
    for way in ways:
        for batch in bench.sizes.batches:
            for stage in STAGES:
                of = {"stage": stage, "way": way, "precision": precision, "batch": batch}
                job = partial(_times, bench, way, precision, batch, stage)
                bench.attempt("stages", of, job, needs_s=12 if way == "compiled" else 3)
    for batch in bench.sizes.batches:
        for stage in STAGES:
            of = {"stage": stage, "way": "floor", "precision": precision, "batch": batch}
            bench.attempt("stages", of, partial(_floor, bench, precision, batch, stage))


def _stage(
    bench: Bench, networks: Networks, stage: str, batch: int, precision: Precision
) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """One network, and an input of the loop's kind for it."""
    model, device = bench.model, bench.device
    if stage == "generator":
        return networks.synthesize, bench.exact[:batch].to(device)
    height, width = model.input_size
    channels = 2 * model.average_image.shape[0]
    source = torch.Generator().manual_seed(0)
    x = torch.rand(batch, channels, height, width, generator=source).mul(2).sub(1)
    return networks.encode, x.to(device, dtype_of(precision))


def _times(bench: Bench, way: Way, precision: Precision, batch: int, stage: str) -> dict[str, Any]:
    is_compiled = way == "compiled"
    with bench.running("eager", precision) as model, float32_products(precision), torch.no_grad():
        networks = model.networks(for_compiler=is_compiled)
        if is_compiled:
            networks = compiled(networks)
        function, example = _stage(bench, networks, stage, batch, precision)
        job: Callable[[], Tensor] = partial(function, example)
        if is_compiled and bench.is_gpu:
            job = captured(function, example)
        seconds = repeated(job, bench.device, bench.sizes.repeat_s / 2)
        peak = bench.peak_gib()
        found = kernels.profiled(job, bench.device)
    return {
        "ms": seconds["median"] * 1e3,
        "best_ms": seconds["best"] * 1e3,
        "peak_gib": peak,
        "launches": sum(kernel.launches for kernel in found),
        "kernels_ms": kernels.by_group(found),
        "top": [
            {
                "kernel": kernel.name[:160],
                "group": kernel.group,
                "us_an_image": kernel.us / batch,
                "launches": kernel.launches,
            }
            for kernel in found[:_TOP]
        ],
    }


def _floor(bench: Bench, precision: Precision, batch: int, stage: str) -> dict[str, Any]:
    with bench.running("reference", "fp32") as model, torch.no_grad():
        function, example = _stage(bench, model.networks(), stage, 1, "fp32")
        gflop = floors.flops(partial(function, example)) * batch / 1e9
    with bench.running("eager", precision) as model, torch.no_grad():
        networks = model.networks(for_compiler=True)
        function, example = _stage(bench, networks, stage, batch, precision)
        moved = floors.product_bytes(partial(function, example))
    speed = ceilings.measured(bench, f"matrix product {precision}", "tflop_per_s")
    bandwidth = ceilings.measured(bench, "copy", "tb_per_s")
    return {
        "gflop": gflop,
        "gb": moved / 1e9,
        "arithmetic_ms": gflop / speed if speed else None,
        "bytes_ms": moved / 1e9 / bandwidth if bandwidth else None,
    }
