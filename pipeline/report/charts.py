"""Numbers -> the geometry of a chart. Markup is the templates' business."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.report.statistics import Statistics

# Of the drawing, in its own units; it scales with the page.
WIDTH, HEIGHT = 270, 180
LEFT, RIGHT, TOP, BOTTOM = 64, 8, 10, 40


@dataclass(frozen=True)
class Tick:
    """A place on an axis and what is written there."""

    at: float
    label: str


@dataclass(frozen=True)
class Point:
    """A value of the curve."""

    x: float
    y: float
    title: str


@dataclass(frozen=True)
class Bar:
    """A bin of the histogram."""

    x: float
    y: float
    width: float
    height: float
    title: str
    is_beyond: bool = False  # it also holds what lies beyond the range


@dataclass(frozen=True)
class Beyond:
    """A word at an end of a histogram: how many values lie beyond it, in its outermost bin."""

    x: float
    y: float
    anchor: str  # of the text: start or end
    text: str


@dataclass(frozen=True)
class Curve:
    """A metric over the steps: mean and median as lines, the spread as a band."""

    line: str  # points of a polyline
    median: str  # the same
    band: str  # points of a polygon
    points: list[Point]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    summary: str  # for those who do not see it


@dataclass(frozen=True)
class Histogram:
    """A metric's distribution over the images."""

    bars: list[Bar]
    beyond: list[Beyond]
    mean: float  # place of the mean on the x axis
    median: float  # and of the median
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    summary: str


@dataclass(frozen=True)
class Axis:
    """A range of values laid on a range of the drawing."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


def curve(stats: Statistics) -> Curve | None:
    """None where there is but one step to show."""
    steps, metric = stats.steps, stats.metric
    if len(steps) < 2:
        return None
    low, high = min(s.low for s in steps), max(s.high for s in steps)
    low, high = min(low, *(s.mean for s in steps)), max(high, *(s.mean for s in steps))
    room = (high - low) * 0.08 or abs(high) * 0.1 or 1
    x = Axis(steps[0].number, steps[-1].number, LEFT + 12, WIDTH - RIGHT - 12)
    y = Axis(low - room, high + room, HEIGHT - BOTTOM, TOP)
    upper = [(x(s.number), y(s.high)) for s in steps]
    lower = [(x(s.number), y(s.low)) for s in reversed(steps)]
    numbers = _whole_ticks(steps[0].number, steps[-1].number)
    return Curve(
        line=_points([(x(s.number), y(s.mean)) for s in steps]),
        median=_points([(x(s.number), y(s.median)) for s in steps]),
        band=_points(upper + lower),
        points=[
            Point(
                x(s.number),
                y(s.mean),
                f"step {s.number}: {metric.text(s.mean, unit=True)} on average, median "
                f"{metric.text(s.median)}, {metric.text(s.low)} to {metric.text(s.high)} for four of five "
                "images",
            )
            for s in steps
        ],
        x_ticks=[Tick(x(n), str(n)) for n in numbers],
        y_ticks=[Tick(y(v), label) for v, label in ticks(y.low, y.high)],
        summary=f"{metric.label} by step, mean and median: "
        + ", ".join(f"{s.number}: {metric.text(s.mean)}, {metric.text(s.median)}" for s in steps),
    )


def histogram(stats: Statistics) -> Histogram:
    """At the last step at which the metric was measured."""
    edges, counts, metric = stats.edges, stats.counts, stats.metric
    x = Axis(float(edges[0]), float(edges[-1]), LEFT, WIDTH - RIGHT)
    y = Axis(0, int(counts.max()) * 1.08, HEIGHT - BOTTOM, TOP)
    bars = []
    for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True):
        if count:
            left, right, top = x(low), x(high), y(count)
            # The outermost bins hold what lies beyond them too.
            at_end = low == edges[0], high == edges[-1]
            ends = stats.low if at_end[0] else low, stats.high if at_end[1] else high
            title = f"{metric.text(ends[0])} to {metric.text(ends[1])}: {_images(int(count))}"
            width, height = round(right - left - 1, 1), round(y.start - top, 1)
            is_beyond = (at_end[0] and stats.n_below > 0) or (at_end[1] and stats.n_above > 0)
            bars.append(Bar(left + 0.5, top, width, height, title, is_beyond))
    last = stats.last
    return Histogram(
        bars=bars,
        beyond=beyond(bars, stats.n_below, stats.n_above),
        mean=x(min(max(last.mean, x.low), x.high)),
        median=x(min(max(last.median, x.low), x.high)),
        x_ticks=[Tick(x(v), label) for v, label in ticks(x.low, x.high, 4)],
        y_ticks=[Tick(y(n), str(n)) for n in _whole_ticks(0, int(counts.max()), 3)],
        summary=f"{metric.label} of {_images(last.n)} at step {last.number}: "
        f"{metric.text(stats.low)} to {metric.text(stats.high)}, "
        f"mean {metric.text(last.mean)}, median {metric.text(last.median)}"
        + (f"; {_images(stats.n_beyond)} beyond the range" if stats.n_beyond else ""),
    )


def beyond(bars: Sequence[Bar], n_below: int, n_above: int) -> list[Beyond]:
    """The words above the outermost bars, where these hold what lies beyond the range."""
    words = []
    if n_below:
        words.append(Beyond(LEFT, bars[0].y - 4, "start", f"‹ {n_below:,} below"))
    if n_above:
        words.append(Beyond(WIDTH - RIGHT, bars[-1].y - 4, "end", f"{n_above:,} above ›"))
    return words


def ticks(low: float, high: float, n: int = 4) -> list[tuple[float, str]]:
    """About ``n`` round values within a range, and their text."""
    raw = (high - low) / n
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= raw * 0.999)
    digits = max(0, -math.floor(math.log10(step)) + (round(step / magnitude, 6) == 2.5))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [(i * step, f"{i * step:.{digits}f}".replace("-", "−")) for i in range(first, last + 1)]


def change(stats: Statistics, of: Literal["mean", "median"]) -> str:
    """What became of a metric over the steps, in words."""
    metric, first, last = stats.metric, getattr(stats.first, of), getattr(stats.last, of)
    end = metric.text(last, unit=True)
    if len(stats.steps) < 2:
        return f"{end} after step {stats.last.number}"
    start = metric.text(first)
    if start == metric.text(last):
        return f"stays at {end}"
    return f"{'falls' if last < first else 'rises'} from {start} to {end}"


def arrow(stats: Statistics, of: Literal["mean", "median"]) -> str:
    """The same in numbers alone: from the first step to the last."""
    ends = [getattr(step, of) for step in (stats.first, stats.last)]
    end = stats.metric.text(ends[1], unit=True)
    return end if len(stats.steps) < 2 else f"{stats.metric.text(ends[0])} → {end}"


def headline(all_stats: Sequence[Statistics]) -> str:
    """The opening sentence's second half: the first metric that has a course over the steps."""
    for stats in all_stats:
        if len(stats.steps) > 1:
            # Of the median, which one strange photo does not move.
            of = change(stats, "median")
            return f"Median {stats.metric.label} {of} over {len(stats.steps)} steps."
    return ""


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in points)


def _whole_ticks(low: int, high: int, n: int = 6) -> list[int]:
    values = [value for value, _ in ticks(low, max(high, low + 1), n)]
    return [round(v) for v in values if v <= high and abs(v - round(v)) < 1e-6]


def _images(n: int) -> str:
    return f"{n:,} image" if n == 1 else f"{n:,} images"
