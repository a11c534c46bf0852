"""A comparison as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest

from pipeline.report.comparison.core import Comparison
from pipeline.report.comparison.metrics import MetricComparison


def table(found: Comparison) -> str:
    """What was compared, each run in a line, then each metric with its intervals."""
    sections = [found.opening, _lines(_runs(found))]
    for compared in found.metrics:
        known = compared.metric
        title = f"{known.axis} {known.arrow} {known.direction}, {compared.n:,} rows"
        sections.append(f"{title}\n{_lines(_rows(found, compared))}")
    return "\n\n".join([*sections, *found.notes])


def _runs(found: Comparison) -> Iterator[list[str]]:
    yield ["run", "model", "differs in", "failed", "model s/image", "images/s"]
    for compared in found.runs:
        took = compared.throughput
        yield [
            compared.name,
            compared.model,
            compared.differs or "–",
            f"{compared.run.n_failed:,}",
            "–" if took is None else f"{took.model_s_per_image:.3g}",
            "–" if took is None else f"{took.samples_per_s:.3g}",
        ]


def _rows(found: Comparison, compared: MetricComparison) -> Iterator[list[str]]:
    known = compared.metric
    yield ["run", "mean", "95 %", f"minus {found.runs[0].name}", "95 %", "better in", ""]
    for i, run in enumerate(found.runs):
        mean, difference = compared.means[i], compared.differences[i]
        line = [
            run.name,
            known.text(mean.mean),
            f"{known.text(mean.low)} to {known.text(mean.high)}",
        ]
        if difference is not None:
            by = difference.by
            line += [known.signed(by.mean), f"{known.signed(by.low)} to {known.signed(by.high)}"]
            line += [f"{difference.n_better / difference.n:.0%}", compared.verdict(i)]
        yield line


def _lines(rows: Iterator[list[str]]) -> str:
    """Columns of equal width."""
    cells = list(rows)
    widths = [max(map(len, column)) for column in zip_longest(*cells, fillvalue="")]
    return "\n".join(
        "  ".join(
            ["", *(cell.ljust(width) for cell, width in zip(row, widths, strict=False))]
        ).rstrip()
        for row in cells
    )
