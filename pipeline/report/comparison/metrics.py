"""One metric of several runs: means, intervals, paired differences, the course over the steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.report import source
from pipeline.report.comparison.bootstrap import Estimate, estimate, resampled_means
from pipeline.report.comparison.runs import Common, Compared, measures_the_same
from pipeline.report.comparison.sign_test import sign_test
from pipeline.report.metrics import Metric, metric

# Of fewer, all of one sign are no rare chance (2 of 2^5 by a sign test), yet no resample shows another.
MIN_IMAGES = 6


@dataclass(frozen=True)
class Difference:
    """A run against the first, image by image."""

    by: Estimate  # its mean minus the first's
    median: float  # of the rows' differences
    p: float  # of the two-sided sign test over images: how often chance alone would be as one-sided
    n_better: int  # rows in which it is better
    n: int  # rows
    n_images: int


@dataclass(frozen=True)
class Course:
    """The means of one run over its steps, where they were measured."""

    steps: list[int]
    means: list[float]


@dataclass(frozen=True)
class MetricComparison:
    """A metric at the last step of every run; lists have one entry a run."""

    metric: Metric
    values: np.ndarray  # [n_runs, n]: of the common rows, NaN where one was not measured
    means: list[Estimate]
    medians: list[float]
    differences: list[Difference | None]  # None for the first
    courses: list[Course]
    best: int | None  # the run that is clearly better than every other one

    @property
    def n(self) -> int:
        return int(np.isfinite(self.values).all(axis=0).sum())

    def verdict(self, i: int) -> str:
        """What the difference of a run says, for people."""
        difference = self.differences[i]
        if difference is None:
            return ""
        if not difference.by.excludes_zero or difference.n_images < MIN_IMAGES:
            return "not clear"
        return "better" if (difference.by.mean > 0) == self.metric.higher_is_better else "worse"


def compare_metric(
    runs: Sequence[Compared], common: Common, name: str, n_resamples: int, seed: int
) -> MetricComparison | None:
    """None where no row was measured in every run."""
    values, courses = [], []
    for compared, numbers in zip(runs, common.numbers, strict=True):
        column = source.values(compared.run, name)[numbers]
        measured = np.flatnonzero(np.isfinite(column).any(axis=0))
        if not len(measured):
            return None
        values.append(column[:, measured[-1]].astype(np.float64))
        courses.append(_course(column, measured))
    stacked = np.stack(values)
    finite = np.isfinite(stacked).all(axis=0)
    if not finite.any():
        return None
    of_metric = metric(name)
    in_all = stacked[:, finite]
    resampled = resampled_means(in_all.T, common.images[finite], n_resamples, seed)
    means = [estimate(of_run.mean(), resampled[:, i]) for i, of_run in enumerate(in_all)]
    medians = [float(np.median(of_run)) for of_run in in_all]
    images = np.unique(common.images[finite], return_inverse=True)[1]
    others = range(1, len(runs))
    differences = [None, *(_difference(of_metric, in_all, resampled, i, images) for i in others)]
    best = _best(of_metric, in_all, resampled) if images.max() + 1 >= MIN_IMAGES else None
    return MetricComparison(of_metric, stacked, means, medians, differences, courses, best)


def _course(column: np.ndarray, measured: np.ndarray) -> Course:
    means = np.nanmean(column[:, measured].astype(np.float64), axis=0)
    return Course([int(step) + 1 for step in measured], means.tolist())


def _difference(
    of_metric: Metric, measured: np.ndarray, resampled: np.ndarray, i: int, images: np.ndarray
) -> Difference:
    gained = measured[i] - measured[0]
    by = estimate(gained.mean(), resampled[:, i] - resampled[:, 0])
    is_better = gained > 0 if of_metric.higher_is_better else gained < 0
    # Faces of one photo are not independent: each photo has one vote.
    by_image = np.bincount(images, gained)
    p = sign_test(int((by_image > 0).sum()), int((by_image < 0).sum()))
    median = float(np.median(gained))
    return Difference(by, median, p, int(is_better.sum()), len(gained), len(by_image))


def _best(of_metric: Metric, measured: np.ndarray, resampled: np.ndarray) -> int | None:
    means = measured.mean(axis=1)
    best = int(means.argmax() if of_metric.higher_is_better else means.argmin())
    for i, mean in enumerate(means):
        difference = estimate(means[best] - mean, resampled[:, best] - resampled[:, i])
        if i != best and not difference.excludes_zero:
            return None
    return best


def comparable(runs: Sequence[Compared]) -> tuple[list[str], list[str]]:
    """Names of the metrics that all runs have, and of those that some have, or measured otherwise."""
    first = runs[0].run
    names = list(dict.fromkeys(n for compared in runs for n in compared.run.settings["metrics"]))
    same = [
        name
        for name in names
        if name in first.settings["metrics"]
        and all(measures_the_same(first, compared.run, name) for compared in runs[1:])
    ]
    return same, [name for name in names if name not in same]
