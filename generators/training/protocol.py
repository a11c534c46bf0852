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
    of: tuple[
        str, ...
    ] = ()  # what each of those numbers is of, such as "64px"; default: step1, step2, ...

    def named(self) -> dict[str, float]:
        """Each number of each distance under its name: "mse/step1"."""
        return {
            f"{name}/{self.of[i] if i < len(self.of) else f'step{i + 1}'}": value
            for name, values in self.distances.items()
            for i, value in enumerate(values)
        }
