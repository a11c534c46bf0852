"""L-BFGS for a batch of images, each by itself: plain tensor code of fixed shape, to be run or captured.

Limited-memory BFGS (Nocedal and Wright, Numerical Optimization, algorithm 7.4) with a history for each image.
A trial that does not lower an image's objective is not taken: the next one goes the same way, less far. So an
answer is never worse than its start, and the step of one image is no concern of another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

HISTORY = 20  # steps that are remembered
_FIRST = 0.1  # of the first step along the gradient, in coordinates whose curvature is about 1
_SHORTER = 0.3  # times the length of a trial that failed

# Coordinates [N, d] -> objective [N] and its gradient [N, d].
Objective = Callable[[Tensor], tuple[Tensor, Tensor]]


class State(NamedTuple):
    """Where each image of a batch is in its descent."""

    at: Tensor  # the best so far, [N, d]
    value: Tensor  # its objective, [N]
    gradient: Tensor  # [N, d]
    way: Tensor  # of the trial that comes next, [N, d]
    length: Tensor  # how far along the way, [N, 1]
    # Steps that were taken, the latest last, and how the gradient changed by each: [HISTORY, N, d], zero
    # where there was none.
    steps: Tensor
    changes: Tensor


def start(objective: Objective, n: int, d: int, device: torch.device) -> State:
    """At the origin, about to go down the gradient."""
    at = torch.zeros(n, d, device=device)
    value, gradient = objective(at)
    none = at.expand(HISTORY, -1, -1).contiguous()
    return State(at, value, gradient, -_FIRST * gradient, at.new_ones(n, 1), none, none.clone())


def trial(state: State) -> Tensor:
    """What to try next, [N, d]."""
    return state.at + state.length * state.way


def advance(objective: Objective, state: State) -> State:
    """Try one step for each image; those whose objective falls take it."""
    tried = trial(state)
    value, gradient = objective(tried)
    # Never of NaN; nor where half precision has no gradient to go on with.
    is_lower = (value < state.value) & gradient.isfinite().all(1)
    lower = is_lower[:, None]
    step = torch.where(lower, tried - state.at, 0)
    change = torch.where(lower, gradient - state.gradient, 0)
    # What does not curve upwards tells nothing of the curvature: not remembered.
    curves = (step * change).sum(1, keepdim=True) > 1e-10 * change.square().sum(1, keepdim=True)
    steps = _remember(state.steps, torch.where(curves, step, 0))
    changes = _remember(state.changes, torch.where(curves, change, 0))
    gradient = torch.where(lower, gradient, state.gradient)
    return State(
        at=torch.where(lower, tried, state.at),
        value=torch.where(is_lower, value, state.value),
        gradient=gradient,
        way=torch.where(lower, -_newton(gradient, steps, changes), state.way),
        length=torch.where(lower, 1, state.length * _SHORTER),
        steps=steps,
        changes=changes,
    )


def _remember(history: Tensor, latest: Tensor) -> Tensor:
    return torch.cat([history[1:], latest[None]])


def _newton(gradient: Tensor, steps: Tensor, changes: Tensor) -> Tensor:
    """The inverse of the Hessian that the history tells, times the gradient: two loops over the history."""
    products = (steps * changes).sum(2, keepdim=True)  # [HISTORY, N, 1]
    inverse = torch.where(products > 0, 1 / products, 0)
    q, factors = gradient, []
    for k in reversed(range(HISTORY)):
        factor = inverse[k] * (steps[k] * q).sum(1, keepdim=True)
        q = q - factor * changes[k]
        factors.append(factor)
    q = q * _scale(products, changes)
    for k, factor in enumerate(reversed(factors)):
        q = q + steps[k] * (factor - inverse[k] * (changes[k] * q).sum(1, keepdim=True))
    return q


def _scale(products: Tensor, changes: Tensor) -> Tensor:
    """How curved the latest step was, which the history tells of the other directions, [N, 1]."""
    scale = torch.full_like(products[0], _FIRST)
    for product, change in zip(products, changes, strict=True):
        scale = torch.where(product > 0, product / change.square().sum(1, keepdim=True), scale)
    return scale
