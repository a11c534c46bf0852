"""What the report's charts are drawn from."""

import numpy as np
import pytest

from pipeline.report.charts import histogram, ticks
from pipeline.report.metrics import metric
from pipeline.report.statistics import statistics


def test_one_bad_image_leaves_the_others_their_bars():
    values = np.append(np.linspace(0, 1, 99), 100.0).astype(np.float32)[:, None]
    found = statistics(metric("mse"), values)
    assert (found.counts > 0).sum() > 5
    assert found.counts.sum() == 100
    chart = histogram(found)
    assert "to 100.0000" in chart.bars[-1].title
    assert [bar.is_beyond for bar in chart.bars if bar.is_beyond] == [chart.bars[-1].is_beyond]
    assert [word.text for word in chart.beyond] == ["1 above ›"]
    assert "median 0.5051; 1 image beyond the range" in chart.summary


def test_statistics_leave_out_what_was_not_measured():
    values = np.array([[np.nan, 1.0], [np.nan, 3.0], [np.nan, np.nan]], np.float32)
    found = statistics(metric("identity"), values)
    assert found is not None
    assert [(s.number, s.n, s.mean) for s in found.steps] == [(2, 2, 2.0)]
    assert found.counts.sum() == 2
    assert statistics(metric("mse"), values[:, :1]) is None


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0.031, 0.092, ["0.04", "0.06", "0.08"]),
        (17.2, 22.9, ["18", "20", "22"]),
        (0.0, 0.9, ["0.00", "0.25", "0.50", "0.75"]),
        (-1.0, 1.0, ["−1.0", "−0.5", "0.0", "0.5", "1.0"]),
    ],
)
def test_ticks_are_round(low, high, labels):
    assert [label for _, label in ticks(low, high)] == labels
