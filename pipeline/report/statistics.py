"""All rows of a metric in a few numbers: the curve over the steps and the histogram at the last."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pipeline.report.metrics import Metric

MAX_BINS = 40
# A value so many interquartile ranges away is counted in the outermost bin: one bad image would
# otherwise press all others into one bar.
FENCE = 4
SPREAD = (10, 90)  # percentiles between which four of five images lie


@dataclass(frozen=True)
class Step:
    """A metric after one step, over all images."""

    number: int  # from 1
    n: int  # images that were measured
    mean: float
    low: float  # 10th percentile
    median: float
    high: float  # 90th percentile


@dataclass(frozen=True)
class Statistics:
    """A metric of a run."""

    metric: Metric
    steps: list[Step]  # those at which it was measured
    counts: np.ndarray  # images in each bin, at the last step
    edges: np.ndarray  # of the bins, one more than counts
    low: float  # smallest and largest value at the last step, in the outermost bins
    high: float
    n_below: int = 0  # images that lie below the first edge and are counted in the first bin
    n_above: int = 0  # the same above the last

    @property
    def n_beyond(self) -> int:
        return self.n_below + self.n_above

    @property
    def first(self) -> Step:
        return self.steps[0]

    @property
    def last(self) -> Step:
        return self.steps[-1]


def statistics(metric: Metric, values: np.ndarray) -> Statistics | None:
    """Sum up [N, n_steps] values, NaN where nothing was measured; None where nothing was at all."""
    steps = []
    for number, column in enumerate(values.T, start=1):
        measured = column[np.isfinite(column)].astype(np.float64)
        if len(measured):
            low, median, high = np.percentile(measured, [SPREAD[0], 50, SPREAD[1]])
            mean = float(measured.mean())
            steps.append(Step(number, len(measured), mean, float(low), float(median), float(high)))
    if not steps:
        return None
    column = values[:, steps[-1].number - 1]
    measured = column[np.isfinite(column)].astype(np.float64)
    counts, edges = bins(measured)
    n_below, n_above = beyond(measured, edges)
    low, high = float(measured.min()), float(measured.max())
    return Statistics(metric, steps, counts, edges, low, high, n_below, n_above)


def bins(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Counts and edges of a histogram; the outermost bins hold what lies far out."""
    n_bins = min(MAX_BINS, max(8, math.ceil(2 * len(values) ** 0.5)))
    first, third = np.percentile(values, [25, 75])
    room = FENCE * (third - first)
    low, high = max(values.min(), first - room), min(values.max(), third + room)
    if high - low < 1e-9:  # one image, or (nearly) all equal: a bar with room beside it
        low, high = low - 0.5 * max(abs(low), 1e-3), high + 0.5 * max(abs(high), 1e-3)
    return np.histogram(values.clip(low, high), bins=n_bins, range=(low, high))


def beyond(values: np.ndarray, edges: np.ndarray) -> tuple[int, int]:
    """How many values lie below the first edge and above the last; the outermost bins hold them."""
    return int((values < edges[0]).sum()), int((values > edges[-1]).sum())
