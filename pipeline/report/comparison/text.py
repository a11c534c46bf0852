"""A comparison as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest

from pipeline.printing import printable
from pipeline.report.comparison.core import Comparison
from pipeline.report.comparison.metrics import MetricComparison
from pipeline.report.comparison.sign_test import p_text


def table(comparison: Comparison) -> str:
    """What was compared, each run in a line, then each metric with its intervals."""
    sections = [comparison.opening, _lines(_runs(comparison))]
    for compared in comparison.metrics:
        of_metric = compared.metric
        title = f"{of_metric.axis} {of_metric.arrow} {of_metric.direction}, {compared.n:,} rows"
        sections.append(f"{title}\n{_lines(_rows(comparison, compared))}")
    return "\n\n".join([*sections, *map(printable, comparison.notes)])


def _runs(comparison: Comparison) -> Iterator[list[str]]:
    yield ["run", "model", "differs in", "failed", "model s/image", "images/s"]
    for compared in comparison.runs:
        took = compared.throughput
        yield [
            compared.name,
            compared.model,
            compared.differs or "–",
            f"{compared.run.n_failed:,}",
            "–" if took is None else f"{took.model_s_per_image:.3g}",
            "–" if took is None else f"{took.samples_per_s:.3g}",
        ]


def _rows(comparison: Comparison, compared: MetricComparison) -> Iterator[list[str]]:
    of_metric = compared.metric
    baseline = comparison.runs[0].name
    yield [
        "run", "mean", "95 %", f"minus {baseline}", "95 %", "better in", "median", "median difference",
        "sign test", "",
    ]  # fmt: skip
    for i, run in enumerate(comparison.runs):
        mean, difference = compared.means[i], compared.differences[i]
        line = [
            run.name,
            of_metric.text(mean.mean),
            f"{of_metric.text(mean.low)} to {of_metric.text(mean.high)}",
        ]
        if difference is not None:
            by = difference.by
            line += [
                of_metric.signed(by.mean),
                f"{of_metric.signed(by.low)} to {of_metric.signed(by.high)}",
            ]
            line.append(f"{difference.n_better / difference.n:.0%}")
        else:
            line += ["baseline", "", ""]
        line.append(of_metric.text(compared.medians[i]))
        if difference is not None:
            line += [of_metric.signed(difference.median), f"p {p_text(difference.p)}"]
            line.append(compared.verdict(i))
        yield line


def _lines(rows: Iterator[list[str]]) -> str:
    """Columns of equal width."""
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip_longest(*cells, fillvalue="")]
    return "\n".join(
        "  ".join(
            ["", *(cell.ljust(width) for cell, width in zip(row, widths, strict=False))]
        ).rstrip()
        for row in cells
    )
