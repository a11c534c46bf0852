"""How long a training takes: told once, after its first batches."""

from __future__ import annotations

from collections.abc import Callable

N_BATCHES, SECONDS = 16, 60.0  # that are measured, whichever come first


class Pace:
    """Measures the first batches of a stretch, without its very first, which also compiles and warms up."""

    def __init__(self, n_batches: int, effort_at: Callable[[int], float]) -> None:
        """
        Args:
            n_batches: of the whole training.
            effort_at: of the batch after so many, in any unit: later ones may take more steps.
        """
        self.n_batches, self._effort_at = n_batches, effort_at
        self._n = -1  # batches that were measured; the first is not
        self._seconds = self._effort = 0.0

    def after(self, global_step: int, seconds: float) -> str | None:
        """Count a batch, the ``global_step``-th, that took so long; the sentence, when it is time for it."""
        if self._n >= N_BATCHES:
            return None
        self._n += 1
        if self._n == 0:
            return None
        self._seconds += seconds
        self._effort += self._effort_at(global_step - 1)
        n_left = self.n_batches - global_step
        if not n_left or (self._n < N_BATCHES and self._seconds < SECONDS):
            return None
        each, self._n = self._seconds / self._n, N_BATCHES
        effort = sum(map(self._effort_at, range(global_step, self.n_batches)))
        left = duration(self._seconds / self._effort * effort)
        return (
            f"a batch takes {each:.2g} s, so the {n_left:,} that are left take about {left}, and validations "
            "come on top"
        )


def duration(seconds: float) -> str:
    """For people: 45 s, 12 min, 3 h 5 min, 2 days 4 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} day{'s' if days > 1 else ''} {hours} h"
