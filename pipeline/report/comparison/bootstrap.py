"""How sure a mean is: the bootstrap over images (Efron 1979), percentile intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEVEL = 95  # per cent


@dataclass(frozen=True)
class Estimate:
    """A mean, and the interval in which it lies in 95 of 100 resamples."""

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


def resampled_means(
    values: np.ndarray, images: np.ndarray, n_resamples: int, seed: int
) -> np.ndarray:
    """Column means of resampled images, [n_resamples, k] float64.

    Images are drawn with replacement, each with all its rows (faces of one photo are not
    independent) and all its columns, so that differences of columns are paired.

    Args:
        values: [n, k], finite.
        images: [n], the image of each row.
    """
    _, ranks = np.unique(images, return_inverse=True)
    n = int(ranks.max()) + 1
    columns = [*values.T.astype(np.float64), np.ones(len(values))]
    sums = np.stack([np.bincount(ranks, column, n) for column in columns], axis=1)
    generator = np.random.default_rng(seed)
    means = np.empty((n_resamples, values.shape[1]))
    for i in range(n_resamples):
        times = np.bincount(generator.integers(n, size=n), minlength=n)
        *totals, n_rows = times @ sums
        means[i] = np.array(totals) / n_rows
    return means


def estimate(mean: float, resampled: np.ndarray) -> Estimate:
    """A mean with the interval of its resamples [n_resamples]."""
    low, high = np.percentile(resampled, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    return Estimate(float(mean), float(low), float(high))
