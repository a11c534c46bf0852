"""Microseconds per image of what is computed beside the inversion: identity and distances."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.timing import repeated
from encoders.metrics import distances
from encoders.metrics.dlib_face import DlibFace
from encoders.metrics.dlib_file import CHIP_SIDE

SIDE = 256


def run(bench: Bench) -> None:
    n = bench.sizes.pairs
    for count in (n, 1):
        of = {"what": "dlib's descriptor", "batch": count}
        bench.attempt("metrics", of, partial(_descriptor, bench, count))
    for metric in (distances.mse, distances.psnr, distances.ms_ssim):
        of = {"what": metric.__name__, "batch": n}
        bench.attempt("metrics", of, partial(_distance, bench, metric, n))


def _descriptor(bench: Bench, n: int) -> dict[str, Any]:
    """Weights are made up: the numbers are wrong and the time is right."""
    torch.manual_seed(0)
    network = DlibFace().requires_grad_(False)
    network = network.to(bench.device)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    source = torch.Generator().manual_seed(0)
    chips = torch.randint(0, 256, (n, CHIP_SIDE, CHIP_SIDE, 3), dtype=torch.uint8, generator=source)
    return _microseconds(bench, partial(network.describe, chips.to(bench.device)), n)


@torch.no_grad()
def _distance(bench: Bench, metric: Callable, n: int) -> dict[str, Any]:
    source = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, n, 3, SIDE, SIDE, generator=source).to(bench.device).unbind()
    return _microseconds(bench, partial(metric, a, b), n)


def _microseconds(bench: Bench, job: Callable[[], object], n: int) -> dict[str, Any]:
    found = repeated(job, bench.device, bench.sizes.repeat_s / 4)
    return {"us_an_image": found["median"] / n * 1e6, "best_us_an_image": found["best"] / n * 1e6}
