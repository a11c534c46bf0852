"""What each metric is called, which way is better, and how its numbers are written."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """One metric as people read it."""

    name: str  # its column
    label: str
    meaning: str  # one line
    higher_is_better: bool
    digits: int  # after the decimal point
    unit: str = ""

    @property
    def direction(self) -> str:
        return "higher is better" if self.higher_is_better else "lower is better"

    @property
    def arrow(self) -> str:
        return "↑" if self.higher_is_better else "↓"

    @property
    def axis(self) -> str:
        """Title of an axis that shows it."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    def text(self, value: float | None, unit: bool = False) -> str:
        """A number of this metric; a dash where it was not measured."""
        if value is None or not math.isfinite(value):
            return "–"
        written = f"{value:.{self.digits}f}"
        return f"{written} {self.unit}" if unit and self.unit else written

    def signed(self, value: float) -> str:
        """A difference, with its sign."""
        return f"{value:+.{self.digits}f}".replace("-", "−")


_KNOWN = (
    Metric("mse", "MSE", "mean squared error of pixels in −1 to 1", False, 4),
    Metric("psnr", "PSNR", "peak signal-to-noise ratio", True, 2, "dB"),
    Metric("ms_ssim", "MS-SSIM", "structural similarity at several scales; 1 means equal", True, 3),
    Metric("lpips", "LPIPS", "perceptual distance; 0 means equal", False, 3),
    Metric(
        "identity", "Identity", "likeness of two face descriptors; 1 means the same face", True, 3
    ),
)
_BY_NAME = {metric.name: metric for metric in _KNOWN}


def metric(name: str) -> Metric:
    """The metric of a column."""
    return _BY_NAME[name]
