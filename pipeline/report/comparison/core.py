"""Several runs over the same images, compared in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.errors import ConfigError
from pipeline.report.comparison.metrics import MetricComparison, comparable, compare_metric
from pipeline.report.comparison.runs import Common, Compared, common_rows, open_runs
from pipeline.report.metrics import metric


@dataclass(frozen=True)
class Comparison:
    """What was found. The first run is what the others are held against."""

    runs: list[Compared]
    common: Common
    metrics: list[MetricComparison]
    n_resamples: int
    seed: int
    notes: list[str] = field(default_factory=list)

    @property
    def opening(self) -> str:
        left_out = self.common.n_left_out
        rest = f"; {left_out:,} that failed in at least one are left out" if left_out else ""
        n = len(self.runs)
        return (
            f"{self.common.numbers.shape[1]:,} rows of {self.common.n_images:,} images were inverted in "
            f"{'both' if n == 2 else f'all {n}'} runs{rest}. Intervals of 95 % from "
            f"{self.n_resamples:,} bootstrap resamples of images, seed {self.seed}. The baseline is "
            f"{self.runs[0].name}: differences to it are taken image by image, and the sign test (two-sided) "
            "tells how often chance alone would favour one side as much."
        )

    @property
    def headline(self) -> str:
        """Which run is best by what, in words."""
        labels: dict[int | None, list[str]] = {}
        for compared in self.metrics:
            labels.setdefault(compared.best, []).append(compared.metric.label)
        sentences = [
            f"{self.runs[best].name} is best by {_and(of_run)}."
            for best, of_run in labels.items()
            if best is not None
        ]
        if None in labels:
            sentences.append(f"By {_and(labels[None])}, no run is clearly best.")
        return " ".join(sentences)


def compare(folders: Sequence[str], *, n_resamples: int = 2000, seed: int = 0) -> Comparison:
    """Compare runs over the same images.

    Args:
        folders: ``--out`` of `restyle invert`; the first is what the others are held against.
        n_resamples, seed: of the bootstrap over images.

    Raises:
        ConfigError: other inputs, nothing in common, or numbers that mean different things.
    """
    runs = open_runs(folders)
    common = common_rows(runs)
    if not common.numbers.size:
        raise ConfigError(
            "no row was inverted in all of these runs, so there is nothing to compare"
        )
    same, others = comparable(runs)
    by_metric = [compare_metric(runs, common, name, n_resamples, seed) for name in same]
    metrics = [compared for compared in by_metric if compared is not None]
    if not metrics:
        raise ConfigError(
            "these runs have no metric in common; invert again with the same --metrics"
        )
    notes = []
    if others:
        names = _and([metric(name).label for name in others])
        notes.append(
            f"{names} is left out: not measured in every run, or measured with different networks."
        )
    return Comparison(runs, common, metrics, n_resamples, seed, notes)


def _and(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
