"""Low-pass filters of StyleGAN3 (Karras et al. 2021, arXiv 2106.12423, section 3 and appendices C.1 and C.2).

Kaiser-windowed sinc filters, and for configuration R windowed jinc filters, which pass the same frequencies
in every direction. Designed in float64; a published file brings its own.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

TAPS_PER_FACTOR = 6  # taps of a filter for each time that it changes the sampling rate


def sinc(taps: int, cutoff: float, half_width: float, rate: float) -> Tensor:
    """A filter along one axis, [taps] float32, its sum 1.

    Args:
        cutoff: the highest frequency that passes.
        half_width: half of the transition from what passes to what does not.
        rate: the sampling rate that the filter works at; all three in periods per width of the picture.
    """
    x = _positions(taps) / rate
    return _summing_to_1(torch.sinc(2 * cutoff * x) * _kaiser(taps, half_width, rate))


def jinc(taps: int, cutoff: float, half_width: float, rate: float) -> Tensor:
    """The same for both axes at once, radially symmetric but for its window, [taps, taps] float32.

    Raises:
        ValueError: an odd number of taps, whose middle would need a limit.
    """
    if taps % 2:
        raise ValueError(f"a radial filter has an even number of taps, not {taps}")
    x = _positions(taps) / rate
    r = torch.hypot(x[:, None], x[None])
    window = _kaiser(taps, half_width, rate)
    wave = torch.special.bessel_j1(2 * math.pi * cutoff * r) / (math.pi * r)
    return _summing_to_1(wave * torch.outer(window, window))


def _positions(taps: int) -> Tensor:
    """Where the taps lie, in samples from the middle."""
    return torch.arange(taps, dtype=torch.float64, device="cpu") - (taps - 1) / 2


def _kaiser(taps: int, half_width: float, rate: float) -> Tensor:
    """Kaiser's window for a transition of that width, by his own estimate of beta."""
    width = 2 * half_width / (rate / 2)  # of the transition, the Nyquist frequency being 1
    attenuation = 2.285 * (taps - 1) * math.pi * width + 7.95  # dB
    if attenuation > 50:
        beta = 0.1102 * (attenuation - 8.7)
    elif attenuation > 21:
        beta = 0.5842 * (attenuation - 21) ** 0.4 + 0.07886 * (attenuation - 21)
    else:
        beta = 0.0
    along = 2 * _positions(taps) / max(taps - 1, 1)
    argument = torch.tensor(beta, dtype=torch.float64, device="cpu")
    inner = (1 - along.square()).clamp_min(0).sqrt()
    return torch.special.i0(argument * inner) / torch.special.i0(argument)


def _summing_to_1(taps: Tensor) -> Tensor:
    return (taps / taps.sum()).float()
