"""What every trainer says to the loop that drives it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


class NotFinite(ArithmeticError):
    """A loss or a gradient is infinite or no number; it was not applied to any weight."""


@dataclass(frozen=True)
class Validation:
    """How good a model is on images that it was not trained on."""

    distances: dict[str, list[float]]  # by name: one number per step, or per scale; lower is better
    score: float  # what to choose a checkpoint by; lower is better
    grid: Tensor  # pictures to look at, [rows, n, 3, h, w] in [-1, 1], on the CPU
