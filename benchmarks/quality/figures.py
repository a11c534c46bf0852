"""A record -> the charts of the page."""

from __future__ import annotations

from benchmarks.quality import robustness
from benchmarks.quality.charts import Chart, Line
from benchmarks.quality.record import NAMES, Record


def charts(record: Record) -> dict[str, Chart]:
    """By the names of their files."""
    return {
        **{metric: _by_step(record, metric, label) for metric, label in METRICS.items()},
        "time": _by_time(record),
        "regions": _changes("regions", "mean squared change", record.changes.regions),
        "styles": _changes("styles", "length, in parts of W's spread", record.changes.groups),
        **{kind: _disturbed(record, kind) for kind in robustness.STRENGTHS},
    }


METRICS = {"mse": "MSE", "ms_ssim": "MS-SSIM", "identity": "identity"}


def _by_step(record: Record, metric: str, label: str) -> Chart:
    """Without the average image, so far off that the steps would look alike beside it."""
    values = [getattr(step, metric) for step in record.steps[1:]]
    others = [
        Line(NAMES[name], [1, len(values)], [getattr(method.distances, metric)] * 2)
        for name, method in record.methods.items()
        if name != "encoder"
    ]
    lines = [Line(NAMES["encoder"], _numbers(values), values), *others]
    return Chart(f"{label} by step", "step", label, lines, log_y=metric == "mse")


def _by_time(record: Record) -> Chart:
    lines = [
        Line(NAMES[name], [point.seconds for point in course], [point.mse for point in course])
        for name, course in record.courses.items()
    ]
    return Chart("Quality by time", "seconds per image", "MSE", lines, log_x=True, log_y=True)


def _changes(what: str, unit: str, groups: dict[str, list[float]]) -> Chart:
    lines = [Line(name, _numbers(values), values) for name, values in groups.items()]
    return Chart(f"What each step changes: {what}", "step", unit, lines, log_y=True)


def _disturbed(record: Record, kind: str) -> Chart:
    rows = [row for row in record.robustness if row.kind == kind]
    strengths = [row.strength for row in rows]
    lines = [
        Line(f"step {step}", strengths, [row.to_clean[step - 1] for row in rows])
        for step in (1, 2, robustness.STEPS)
    ]
    lines.append(Line("what was seen", strengths, [row.seen for row in rows]))
    label = f"{kind}: {robustness.UNITS[kind]}"
    return Chart(f"MSE to the clean portrait: {kind}", label, "MSE", lines)


def _numbers(values: list[float]) -> list[int]:
    return list(range(1, len(values) + 1))
