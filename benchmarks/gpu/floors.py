"""The least that a network can take: its arithmetic, and the bytes its convolutions must move."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

_PRODUCTS = ("convolution", "mm", "bmm", "addmm", "baddbmm")


def flops(run: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


class _Bytes(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket.__name__ in _PRODUCTS:
            tensors = [x for x in tree_leaves((args, result)) if isinstance(x, Tensor)]
            self.total += sum(x.numel() * x.element_size() for x in tensors)
        return result


@torch.no_grad()
def product_bytes(run: Callable[[], object]) -> int:
    """Factors and results of all convolutions and matrix products, each moved once.

    As if all that stands between two products cost nothing.
    """
    with _Bytes() as counter:
        run()
    return counter.total
