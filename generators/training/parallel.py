"""Training on several workers: the same weights and the same gradients on all, without a wrapper.

torch's DistributedDataParallel averages inside the backward pass; several backward passes a batch, and the
double one of gradient penalties, do not fit its hooks. Here a trainer says itself when to average.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, distributed, nn


def rank() -> int:
    """Number of this worker, 0 where there is one alone."""
    return distributed.get_rank() if _is_started() else 0


def n_workers() -> int:
    """How many train together, 1 where torch.distributed is not initialised."""
    return distributed.get_world_size() if _is_started() else 1


def _is_started() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its mean over the workers; nothing on a single one.

    To be called by all of them just before an optimizer's step, with gradients on the same parameters.
    """
    if n_workers() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    if gradients:
        flat = torch.cat([g.reshape(-1) for g in gradients])
        distributed.all_reduce(flat)
        _scatter(flat / n_workers(), gradients)


def average(value: Tensor) -> Tensor:
    """The mean of a tensor over the workers, which all must call this."""
    if n_workers() == 1:
        return value
    total = value.detach().clone()
    distributed.all_reduce(total)
    return total / n_workers()


def first_says(answer: bool, device: torch.device) -> bool:
    """The first worker's answer, on all of them, which all must ask at the same place."""
    if n_workers() == 1:
        return answer
    shared = torch.tensor(int(answer), device=device)
    distributed.broadcast(shared, src=0)
    return bool(shared)


def broadcast_parameters(module: nn.Module) -> None:
    """Give every worker the first one's parameters and buffers; nothing on a single one."""
    if n_workers() == 1:
        return
    by_dtype: dict[torch.dtype, list[Tensor]] = {}
    for tensor in [*module.parameters(), *module.buffers()]:
        by_dtype.setdefault(tensor.dtype, []).append(tensor.detach())
    for tensors in by_dtype.values():
        flat = torch.cat([t.reshape(-1) for t in tensors])
        distributed.broadcast(flat, src=0)
        _scatter(flat, tensors)


def _scatter(flat: Tensor, tensors: list[Tensor]) -> None:
    """Copy the pieces of a flat tensor back to where they came from."""
    for tensor, piece in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(piece.view_as(tensor))
