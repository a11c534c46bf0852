"""StyleGAN3's nonlinearity: up, leaky ReLU, bound and down again, so that nothing above the band comes in.

The definition alone for now (section 3.2 of arXiv 2106.12423); the fast way stands beside it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from generators import ops


@dataclass(frozen=True, eq=False)
class Resampling:
    """The filters around an activation and the rates that they change."""

    up: int
    down: int
    padding: tuple[
        int, int
    ]  # zeros before and behind each axis of the zero-stuffed map; may be negative
    up_filter: Tensor | None  # [taps]
    down_filter: Tensor | None  # [taps], or [taps, taps] where it is radial


def reference(x: Tensor, resampling: Resampling, gain: float, clamp: float | None) -> Tensor:
    """[N, C, h, w] -> [N, C, h', w'], by the definition: zeros stuffed in, every sample filtered."""
    out = _stuffed(x, resampling.up, resampling.padding)
    if resampling.up_filter is not None:
        out = _filtered(out, resampling.up_filter * resampling.up)
    out = ops.bound(F.leaky_relu(out, ops.LEAKY_SLOPE) * gain, clamp)
    if resampling.down_filter is not None:
        out = _filtered(out, resampling.down_filter)
    return out[:, :, :: resampling.down, :: resampling.down]


def _stuffed(x: Tensor, up: int, padding: tuple[int, int]) -> Tensor:
    n, c, h, w = x.shape
    stuffed = x.new_zeros(n, c, h, up, w, up)
    stuffed[:, :, :, 0, :, 0] = x
    return F.pad(stuffed.reshape(n, c, h * up, w * up), padding * 2)


def _filtered(x: Tensor, taps: Tensor) -> Tensor:
    """A true convolution (flipped), without padding: along one axis and the other, or both at once."""
    taps = taps.to(x.dtype)
    if taps.ndim == 1:
        rows = _depthwise(x, taps.flip(0)[None])
        return _depthwise(rows, taps.flip(0)[:, None])
    return _depthwise(x, taps.flip(0, 1))


def _depthwise(x: Tensor, taps: Tensor) -> Tensor:
    c = x.shape[1]
    return F.conv2d(x, taps.expand(c, 1, *taps.shape), groups=c)


GAIN = math.sqrt(2.0)  # behind the leaky ReLU
