"""Line charts as SVG files, which a page of Markdown can show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from pipeline.report.charts import Axis, ticks

# Of the drawing, in its own units; the names of the lines stand right of it.
WIDTH, HEIGHT = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 72, 170, 34, 46
# Told apart by the colour-blind too (Okabe and Ito 2008).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9", "#000000")
_TEMPLATE = Path(__file__).parent / "chart.svg.jinja"


@dataclass(frozen=True)
class Line:
    """Named points, in order."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Chart:
    """Lines over one axis; a logarithmic axis shows positive values only."""

    title: str
    x_label: str
    y_label: str
    lines: Sequence[Line]
    log_x: bool = False
    log_y: bool = False

    def save(self, path: Path) -> None:
        path.write_text(self.svg())

    def svg(self) -> str:
        kept = [self._kept(line) for line in self.lines]
        x = _Scale([v for points in kept for v, _ in points], self.log_x, (LEFT, WIDTH - RIGHT))
        y = _Scale([v for points in kept for _, v in points], self.log_y, (HEIGHT - BOTTOM, TOP))
        drawn = [
            {
                "name": line.name,
                "colour": COLOURS[i % len(COLOURS)],
                "points": [(x(a), y(b), f"{line.name}: {a:.4g}, {b:.4g}") for a, b in points],
                "key": TOP + 8 + 18 * i,
            }
            for i, (line, points) in enumerate(zip(self.lines, kept, strict=True))
        ]
        # Escaped whatever the file is called.
        environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
        template = environment.from_string(_TEMPLATE.read_text())
        return template.render(
            chart=self, lines=drawn, x_ticks=x.ticks(), y_ticks=y.ticks(), **_FRAME
        )

    def _kept(self, line: Line) -> list[tuple[float, float]]:
        return [
            (a, b)
            for a, b in zip(line.x, line.y, strict=True)
            if math.isfinite(a)
            and math.isfinite(b)
            and (a > 0 or not self.log_x)
            and (b > 0 or not self.log_y)
        ]


_FRAME = {
    "WIDTH": WIDTH,
    "HEIGHT": HEIGHT,
    "LEFT": LEFT,
    "RIGHT": WIDTH - RIGHT,
    "TOP": TOP,
    "FLOOR": HEIGHT - BOTTOM,
}


class _Scale:
    """Values laid on the drawing, with some room around them."""

    def __init__(self, values: Sequence[float], log: bool, ends: tuple[float, float]) -> None:
        self.log = log
        placed = [math.log10(v) if log else v for v in values] or [0.0, 1.0]
        low, high = min(placed), max(placed)
        room = (high - low) * 0.05 or abs(high) * 0.1 or 1.0
        self.axis = Axis(low - room, high + room, *ends)

    def __call__(self, value: float) -> float:
        return self.axis(math.log10(value) if self.log else value)

    def ticks(self) -> list[tuple[float, str]]:
        """Places and labels: round values, or powers of ten with the steps between that fit."""
        if not self.log:
            return [(self.axis(v), label) for v, label in ticks(self.axis.low, self.axis.high, 5)]
        decades = range(math.floor(self.axis.low), math.ceil(self.axis.high) + 1)
        steps = (1,) if self.axis.high - self.axis.low > 2.5 else (1, 2, 5)
        values = [step * 10.0**decade for decade in decades for step in steps]
        inside = [v for v in values if self.axis.low <= math.log10(v) <= self.axis.high]
        return [(self(v), f"{v:g}") for v in inside]
