"""Which rows of a large run get pictures: the worst by each metric, and others spread evenly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from pipeline.report.metrics import Metric

# Of the rows shown, one in so many is a worst one for each metric.
WORST_SHARE = 8


@dataclass(frozen=True)
class Choice:
    """Numbers of rows to show."""

    shown: list[int]  # inverted ones
    failed: list[int]
    n_worst: int = 0  # by each metric, of all rows; 0 where all are shown, or few
    ranks: Mapping[int, str] = field(default_factory=dict)  # why a worst row is shown


def choose(statuses: np.ndarray, measured: Mapping[Metric, np.ndarray], limit: int) -> Choice:
    """At most ``limit`` inverted rows, and as many that failed.

    Args:
        statuses: [n_rows].
        measured: of each metric [n_rows, n_steps], NaN where there is none.
    """
    ok = np.flatnonzero(statuses == "ok")
    failed = _failures(statuses, limit)
    if len(ok) <= limit:
        return Choice(ok.tolist(), failed)
    n_worst = limit // WORST_SHARE
    ranks: dict[int, str] = {}
    for metric, values in measured.items():
        for place, number in enumerate(worst(metric, values, n_worst)):
            ordinal = "worst" if place == 0 else f"{place + 1}. worst"
            ranks.setdefault(number, f"{ordinal} {metric.label} of all")
    others = np.setdiff1d(ok, list(ranks))
    spread = others[_spread(len(others), limit - len(ranks))]
    return Choice(sorted([*ranks, *spread.tolist()]), failed, n_worst, ranks)


def worst(metric: Metric, values: np.ndarray, n: int) -> list[int]:
    """Numbers of the rows that are worst at the last step that was measured, the worst first."""
    measured = np.isfinite(values)
    if not n or not measured.any():
        return []
    column = values[:, np.flatnonzero(measured.any(0))[-1]]
    badness = np.where(np.isfinite(column), -column if metric.higher_is_better else column, -np.inf)
    order = np.argsort(-badness, kind="stable")[:n]
    return order[np.isfinite(badness[order])].tolist()


def _failures(statuses: np.ndarray, limit: int) -> list[int]:
    """Some of every status, so that a rare one is not lost among many of another."""
    kinds, counts = np.unique(statuses[statuses != "ok"], return_counts=True)
    chosen: list[int] = []
    for i, kind in enumerate(kinds[np.argsort(counts, kind="stable")]):
        rows_of_kind = np.flatnonzero(statuses == kind)
        share = -(-(limit - len(chosen)) // (len(kinds) - i))
        chosen += rows_of_kind[_spread(len(rows_of_kind), share)].tolist()
    return sorted(chosen[:limit])


def _spread(n: int, limit: int) -> np.ndarray:
    """At most ``limit`` of ``n`` ranks, evenly spaced."""
    n_chosen = min(n, limit)
    return (np.arange(n_chosen) * n // max(1, n_chosen)).astype(int)
