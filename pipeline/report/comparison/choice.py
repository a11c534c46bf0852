"""Which images a comparison shows: where runs differ most, the worst, the best, and some others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.report.comparison.metrics import MetricComparison


def choose(metrics: Sequence[MetricComparison], n: int, limit: int) -> list[int]:
    """Positions among the ``n`` common rows, at most ``limit``, by the difference of the first metric."""
    if n <= limit:
        chosen = list(range(n))
    else:
        each = max(1, limit // (3 * len(metrics) + 3))
        picked: dict[int, None] = {}
        for compared in metrics:
            for order in (disagreement(compared), badness(compared), -badness(compared)):
                ranked = np.argsort(-np.nan_to_num(order, nan=-np.inf), kind="stable")[:each]
                picked |= dict.fromkeys(ranked.tolist())
        chosen = list(picked)[:limit]
        others = np.setdiff1d(np.arange(n), chosen)
        n_left = limit - len(chosen)
        chosen += others[np.arange(n_left) * len(others) // max(1, n_left)].tolist()
    first = disagreement(metrics[0])
    return sorted(chosen, key=lambda i: -np.nan_to_num(first[i], nan=-np.inf))


def disagreement(compared: MetricComparison) -> np.ndarray:
    """[n], between the best and the worst run."""
    return np.ptp(compared.values, axis=0)


def badness(compared: MetricComparison) -> np.ndarray:
    """[n], the mean over the runs, turned so that more is worse."""
    mean = compared.values.mean(axis=0)
    return -mean if compared.metric.higher_is_better else mean
