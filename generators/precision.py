"""Precisions of a network, and torch's switches that would change what float32 means.

torch lets an NVIDIA GPU round the factors of float32 convolutions to 10 bits (TF32) unless told not to: on
ReStyle's latents an error of 2e-4 that depends on the batch, where IEEE float32 has 7e-7.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal, get_args

import torch

Precision = Literal["fp32", "tf32", "bf16", "fp16"]
"""fp32 is IEEE float32; tf32 the same numbers, their products rounded by an NVIDIA GPU's tensor cores."""

DTYPES: dict[str, torch.dtype] = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


def dtype_of(precision: str) -> torch.dtype:
    """The dtype of feature maps.

    Raises:
        ValueError: no such precision.
    """
    if precision not in DTYPES:
        raise ValueError(
            f"precision must be one of {', '.join(get_args(Precision))}, not {precision!r}"
        )
    return DTYPES[precision]


@contextmanager
def float32_products(precision: Precision = "fp32") -> Iterator[None]:
    """Convolutions and matrix products of float32 as ``precision`` says, on any device.

    TF32 for "tf32", IEEE for every other one. The process's own switches are as before when it ends, also
    by an exception. They are not a thread's own: two threads must not be inside with different precisions.
    """
    before = _switches()
    try:
        _set("tf32" if precision == "tf32" else "ieee")
        yield
    finally:
        _restore(before)


# torch has two sets of these switches, an older and a newer one, and refuses to read the older while the two
# disagree (inductor reads it). So both are set, and both are restored. torch before 2.9 has the older alone.
HAS_NEWER = hasattr(torch.backends.cuda.matmul, "fp32_precision")
_NEW = (
    ("cuda.matmul", "cudnn.conv", "cudnn.rnn", "mkldnn.matmul", "mkldnn.conv") if HAS_NEWER else ()
)


def _switches() -> dict[str, str | bool]:
    switches: dict[str, str | bool] = {}
    # Where a program has set the two differently, the older cannot be read: then the newer alone counts.
    with suppress(RuntimeError):
        switches["matmul"] = torch.get_float32_matmul_precision()
    with suppress(RuntimeError):
        switches["cudnn"] = torch.backends.cudnn.allow_tf32
    return switches | {name: _backend(name).fp32_precision for name in _NEW}


def _set(products: Literal["tf32", "ieee"]) -> None:
    torch.set_float32_matmul_precision("high" if products == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = products == "tf32"
    for name in _NEW:
        # TF32 is the GPU's; a CPU that could round products keeps to IEEE.
        _backend(name).fp32_precision = "ieee" if name.startswith("mkldnn") else products


def _restore(before: dict[str, str | bool]) -> None:
    if "matmul" in before:
        torch.set_float32_matmul_precision(str(before["matmul"]))
    if "cudnn" in before:
        torch.backends.cudnn.allow_tf32 = bool(before["cudnn"])
    for name in _NEW:
        _backend(name).fp32_precision = before[name]


def _backend(name: str):  # type: ignore[no-untyped-def]  # torch types them as modules
    backend = torch.backends
    for part in name.split("."):
        backend = getattr(backend, part)
    return backend
