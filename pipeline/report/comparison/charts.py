"""A comparison -> the geometry of its charts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.report import charts
from pipeline.report.charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Axis,
    Bar,
    Beyond,
    Tick,
    ticks,
)
from pipeline.report.comparison.metrics import MetricComparison
from pipeline.report.comparison.runs import Compared
from pipeline.report.statistics import beyond, bins

ROW = 26  # height of a run's line


@dataclass(frozen=True)
class Whisker:
    """The mean of one run and its interval."""

    y: float
    low: float
    mean: float
    high: float
    median: float
    run: int
    title: str


@dataclass(frozen=True)
class Whiskers:
    """The means of all runs, one under the other."""

    whiskers: list[Whisker]
    x_ticks: list[Tick]
    height: float
    summary: str


@dataclass(frozen=True)
class Line:
    """A run's means over the seconds that its model took."""

    run: int
    name: str
    points: list[tuple[float, float, str]]  # x, y, what is said there

    @property
    def path(self) -> str:
        return " ".join(f"{x:g},{y:g}" for x, y, _ in self.points)


@dataclass(frozen=True)
class Tradeoff:
    """Quality against time."""

    lines: list[Line]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    summary: str


@dataclass(frozen=True)
class Spread:
    """How one run differs from the first, image by image."""

    run: int
    bars: list[Bar]
    better: list[bool]  # of each bar
    beyond: list[Beyond]
    median: float  # place of the median difference
    zero: float | None  # place of no difference; None where it lies outside
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    summary: str


def whiskers(compared: MetricComparison, runs: Sequence[Compared]) -> Whiskers:
    """The chart of a metric's mean in each run, with its interval."""
    metric = compared.metric
    low = min(*(m.low for m in compared.means), *compared.medians)
    high = max(*(m.high for m in compared.means), *compared.medians)
    room = (high - low) * 0.08 or abs(high) * 0.05 or 1.0
    x = Axis(low - room, high + room, 12, WIDTH - 12)
    lines = [
        Whisker(
            TOP + ROW * (i + 0.5),
            x(mean.low),
            x(mean.mean),
            x(mean.high),
            x(median),
            i,
            f"{run.name}: mean {metric.text(mean.mean, unit=True)}, {metric.text(mean.low)} to "
            f"{metric.text(mean.high)}; median {metric.text(median)}",
        )
        for i, (run, mean, median) in enumerate(
            zip(runs, compared.means, compared.medians, strict=True)
        )
    ]
    return Whiskers(
        lines,
        [Tick(x(v), label) for v, label in ticks(x.low, x.high)],
        TOP + ROW * len(runs) + BOTTOM,
        f"{metric.label}: means with intervals, and medians. "
        + "; ".join(line.title for line in lines),
    )


def tradeoff(compared: MetricComparison, runs: Sequence[Compared]) -> Tradeoff | None:
    """Steps of a loop are taken to be of one length; None where no run was timed."""
    timed = [
        (
            i,
            run.name,
            [run.throughput.seconds_until(n, run.run.settings["steps"]) for n in course.steps],
            course,
        )
        for i, (run, course) in enumerate(zip(runs, compared.courses, strict=True))
        if run.throughput is not None and run.throughput.invert_s > 0
    ]
    if not timed:
        return None
    metric = compared.metric
    means = [mean for _, _, _, course in timed for mean in course.means]
    low, high = min(means), max(means)
    room = (high - low) * 0.1 or abs(high) * 0.1 or 1.0
    longest = max(seconds[-1] for _, _, seconds, _ in timed)
    x = Axis(0, longest * 1.06, LEFT, WIDTH - RIGHT)
    y = Axis(low - room, high + room, HEIGHT - BOTTOM, TOP)
    lines = []
    for i, name, seconds, course in timed:
        points = [
            (
                x(after),
                y(mean),
                f"{name}, step {step}: {metric.text(mean, unit=True)} after {after:.3g} s",
            )
            for step, after, mean in zip(course.steps, seconds, course.means, strict=True)
        ]
        lines.append(Line(i, name, points))
    title = "; ".join(line.points[-1][2] for line in lines)
    return Tradeoff(
        lines,
        [Tick(x(v), label) for v, label in ticks(0, x.high)],
        [Tick(y(v), label) for v, label in ticks(y.low, y.high)],
        f"Mean {metric.label} against seconds per image. {title}",
    )


def spread(compared: MetricComparison, runs: Sequence[Compared], run: int) -> Spread:
    """The histogram of how much each row gained from the first run to this one."""
    metric, difference = compared.metric, compared.differences[run]
    assert difference is not None
    gained = (compared.values[run] - compared.values[0])[np.isfinite(compared.values).all(axis=0)]
    counts, edges = bins(gained)
    n_below, n_above = beyond(gained, edges)
    x = Axis(float(edges[0]), float(edges[-1]), LEFT, WIDTH - RIGHT)
    y = Axis(0, int(counts.max()) * 1.08, HEIGHT - BOTTOM, TOP)
    bars, better = [], []
    for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True):
        if count:
            title = f"{metric.signed(low)} to {metric.signed(high)}: {count:,} rows"
            top = y(float(count))
            width = round(x(high) - x(low) - 1, 1)
            is_beyond = (low == edges[0] and n_below > 0) or (high == edges[-1] and n_above > 0)
            height = round(y.start - top, 1)
            bars.append(Bar(x(low) + 0.5, top, width, height, title, is_beyond))
            better.append(((low + high) / 2 > 0) == metric.higher_is_better)
    share = f"{difference.n_better / difference.n:.0%}"
    return Spread(
        run,
        bars,
        better,
        charts.beyond(bars, n_below, n_above),
        x(min(max(difference.median, x.low), x.high)),
        x(0.0) if x.low <= 0 <= x.high else None,
        [Tick(x(v), label) for v, label in ticks(x.low, x.high, 3)],
        [Tick(y(n), label) for n, label in ticks(0, int(counts.max()), 3) if n == int(n)],
        f"{metric.label} of {runs[run].name} minus that of {runs[0].name}: "
        f"{metric.signed(difference.by.mean)} on average, median {metric.signed(difference.median)}, "
        f"better in {share} of rows",
    )
