"""How many faces fit on the device together: found by trying, before the first shard."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from pipeline.errors import OutOfMemory
from pipeline.models import is_out_of_memory

SIZES = (32, 16, 8, 4, 2, 1)  # tried in this order; beyond 32 a GPU becomes no faster
ON_CPU = 8  # memory decides nothing there, and larger batches are no faster
# Of a GPU's memory, what a search may use: the rest is for its context, and for what fragments.
SHARE_TRIED = 0.9


def tries(work: Callable[[int], object], n: int) -> bool:
    """Whether so many fit: ``work(n)`` is done, and its memory given back where it does not fit.

    Raises:
        RuntimeError: whatever else fails.
    """
    try:
        work(n)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    else:
        return True
    torch.cuda.empty_cache()  # only here: the error has kept the tensors of its frames until now
    return False


def largest(work: Callable[[int], object], sizes: Sequence[int] = SIZES) -> int | None:
    """The first of the sizes, which come from large to small, that fits; None where none does."""
    return next((n for n in sizes if tries(work, n)), None)


def on_gpu(work: Callable[[int], object], share: float) -> int:
    """The size for a GPU of which ``share`` (at most 1) is this process's.

    The search is held to the share, so that all actors find one size on one kind of GPU, whoever loads first.

    Raises:
        OutOfMemory: not even one image fits.
    """
    torch.cuda.set_per_process_memory_fraction(SHARE_TRIED * share)
    try:
        size = largest(work)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    if size is None:
        raise OutOfMemory(
            f"not a single image fits in {share:.0%} of this GPU's memory; pass --precision bf16, or "
            "fewer actors for each GPU"
        )
    return size


def too_large(n: int, work: Callable[[int], object]) -> OutOfMemory:
    """The error for a batch of ``n`` that did not fit; it names the largest size that does."""
    fitting = largest(work, [size for size in SIZES if size < n])
    if fitting is None:
        return OutOfMemory(
            f"a batch of {n} does not fit in memory, and neither does one image; pass --precision bf16, "
            "or use a device with more memory"
        )
    return OutOfMemory(f"a batch of {n} does not fit in memory; --batch-size {fitting} fits")
