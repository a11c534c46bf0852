"""What the device can do at most: large matrix products and a copy."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.timing import repeated
from generators.precision import Precision, dtype_of, float32_products

PART = "ceilings"


def run(bench: Bench) -> None:
    for precision in bench.precisions:
        of = {"what": f"matrix product {precision}"}
        bench.attempt(PART, of, partial(_product, bench, precision))
    bench.attempt(PART, {"what": "copy"}, partial(_copy, bench))


@torch.no_grad()
def _product(bench: Bench, precision: Precision) -> dict[str, float]:
    side = bench.sizes.matrix
    a, b = torch.randn(2, side, side, device=bench.device).to(dtype_of(precision)).unbind(0)
    with float32_products(precision):
        best = repeated(lambda: a @ b, bench.device, bench.sizes.repeat_s / 4)["best"]
    return {"tflop_per_s": 2 * side**3 / best / 1e12}


def _copy(bench: Bench) -> dict[str, float]:
    """Bytes read and bytes written."""
    source = torch.zeros(bench.sizes.copy_mib << 20, dtype=torch.uint8, device=bench.device)
    target = torch.empty_like(source)
    best = repeated(lambda: target.copy_(source), bench.device, bench.sizes.repeat_s / 4)["best"]
    return {"tb_per_s": 2 * source.numel() / best / 1e12}


def measured(bench: Bench, what: str, unit: str) -> float | None:
    """A ceiling of this session or an earlier one on the same card; None where it was not measured."""
    rows: list[dict[str, Any]] = bench.record.content["parts"].get(PART, {}).get("rows", [])
    return next((row[unit] for row in rows if row["what"] == what and unit in row), None)
