"""StyleGAN3's nonlinearity: up, leaky ReLU, bound and down again, so that nothing above the band comes in.

Section 3.2 of arXiv 2106.12423, in three formulations of the same filters:

- "reference": the definition: zeros stuffed in, every sample filtered, every second one thrown away.
- "in_place", for a CPU: filters that compute what is kept only, on some channels and rows at a time, so that
  the map at the high rate (four or sixteen times the layer's) never exists: a strip of it stays in the cache.
- "fused", for a GPU: no depthwise convolution. A filter along one axis is a banded matrix, and its blocks on
  the diagonal are all the same, so that it is one product of windows with a small matrix. A radial filter is
  the sum of two to four products of such pairs: its singular values fall that fast.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from generators import ops
from generators.styled_conv import Formulation

STRIP_CHANNELS = (
    32  # of a strip: this and the next measured best of 16 to all, on a core with 2 MB of L2
)
STRIP_NUMBERS = 1_500_000  # entries of a strip at the high rate
MIN_STRIP = 16  # rows of a strip's result: fewer compute too many rows twice
BLOCK = 64  # samples at the high rate that a block of the banded matrix makes
RANK_TOLERANCE = 3e-7  # of a radial filter, what its float32 sums lose anyway


@dataclass(frozen=True, eq=False)
class Resampling:
    """The filters around an activation and the rates that they change."""

    up: int
    down: int
    # Zeros before and behind each axis of the zero-stuffed map; negative: samples cut away.
    padding: tuple[int, int]
    up_filter: Tensor  # [taps]
    down_filter: Tensor  # [taps], or [taps, taps] where it is radial

    def n_high(self, n: int) -> int:
        """Samples of an axis at the high rate, of n that come in."""
        return n * self.up + sum(self.padding) - len(self.up_filter) + 1

    def n_out(self, n: int) -> int:
        """Samples of an axis that come out, of n that come in."""
        return (self.n_high(n) - len(self.down_filter)) // self.down + 1


class FilteredActivation:
    """An activation between two filters, for feature maps of a dtype."""

    def __init__(
        self,
        resampling: Resampling,
        size: int,  # height and width of the maps that come in
        clamp: float | None,  # bound of the activation's absolute value
        formulation: Formulation,
        dtype: torch.dtype,  # of the feature maps
    ) -> None:
        self.resampling, self.clamp, self.formulation = resampling, clamp, formulation
        up, down = resampling.up_filter, resampling.down_filter
        if formulation == "reference":
            self._up, self._down = up * resampling.up, down
            return
        # lrelu(gain x) = gain lrelu(x): the gain goes into the filter, half of it along each axis.
        self._up = up * (resampling.up * math.sqrt(ops.ACTIVATION_GAIN))
        self._down = down
        if formulation == "fused":
            self._make_bands(size, dtype)
        if formulation == "in_place":
            # Depthwise filters of half precision take eight times as long on a CPU as those of float32, whose
            # strips stay in the cache.
            dtype = torch.promote_types(dtype, torch.float32)
        self._up, self._down = self._up.to(dtype), self._down.to(dtype)

    def _make_bands(self, size: int, dtype: torch.dtype) -> None:
        r, down = self.resampling, self.resampling.down_filter
        n_high, n_out = r.n_high(size), r.n_out(size)
        self._raise = _Band(self._up, r.up, 1, r.padding[0], n_high, dtype)
        pairs = _separated(down) if down.ndim == 2 else [(down, down)]
        self._lower = [
            tuple(_Band(taps, 1, r.down, 0, n_out, dtype) for taps in pair) for pair in pairs
        ]

    def __call__(self, x: Tensor) -> Tensor:
        """[N, C, h, h] -> [N, C, h', h'], in the dtype that it was made for."""
        if self.formulation == "reference":
            return self._reference(x)
        if self.formulation == "fused":
            return self._fused(x)
        samples = []
        for one in x.split(1):
            parts = [self._in_strips(channels) for channels in one.split(STRIP_CHANNELS, dim=1)]
            samples.append(torch.cat(parts, dim=1))
        return torch.cat(samples)

    def _activated(self, x: Tensor) -> Tensor:
        return ops.bound(F.leaky_relu_(x, ops.LEAKY_SLOPE), self.clamp)

    def _reference(self, x: Tensor) -> Tensor:
        r, dtype = self.resampling, x.dtype
        n, c, h, w = x.shape
        stuffed = x.new_zeros(n, c, h, r.up, w, r.up)
        stuffed[:, :, :, 0, :, 0] = x
        out = F.pad(stuffed.reshape(n, c, h * r.up, w * r.up), r.padding * 2)
        out = _filtered(out, self._up.to(dtype))
        out = ops.bound(F.leaky_relu(out, ops.LEAKY_SLOPE) * ops.ACTIVATION_GAIN, self.clamp)
        return _filtered(out, self._down.to(dtype))[:, :, :: r.down, :: r.down]

    def _in_strips(self, x: Tensor) -> Tensor:
        """Some channels of one sample, a few rows of the result at a time."""
        r, (c, h) = self.resampling, x.shape[1:3]
        x = x.contiguous(memory_format=torch.channels_last)
        n_out = r.n_out(h)
        rows = max(MIN_STRIP, STRIP_NUMBERS // (c * r.n_high(h) * r.down))
        starts = range(0, n_out, rows)
        strips = [self._strip(x, i, min(i + rows, n_out)).to(x.dtype) for i in starts]
        return torch.cat(strips, dim=2)

    def _strip(self, x: Tensor, first: int, last: int) -> Tensor:
        """Rows `first` up to `last` of the result."""
        r, c = self.resampling, x.shape[1]
        taps, cut = len(self._up), len(self._up) - 1 - r.padding[0]
        assert cut >= 0, "the up filter reaches over the padding"
        # At the high rate, and of what comes in: input j reaches samples j up - cut to j up - cut + taps - 1.
        top, bottom = first * r.down, (last - 1) * r.down + len(self._down)
        begin = max(0, -((taps - 1 - cut - top) // r.up))
        end = min(x.shape[2], (bottom - 1 + cut) // r.up + 1)
        high = _raised(x[:, :, begin:end].to(self._up.dtype), self._up, r.up, cut)
        high = self._activated(high[:, :, top + cut - begin * r.up :][:, :, : bottom - top])
        if self._down.ndim == 2:
            return F.conv2d(high, _each(self._down.flip(0, 1), c), stride=r.down, groups=c)
        taps_down = self._down.flip(0)
        high = F.conv2d(high, _each(taps_down[:, None], c), stride=(r.down, 1), groups=c)
        return F.conv2d(high, _each(taps_down[None], c), stride=(1, r.down), groups=c)

    def _fused(self, x: Tensor) -> Tensor:
        maps = x.permute(0, 2, 3, 1)  # [N, h, w, C]: windows of whole rows, and of whole pixels
        maps = self._raise.rows(self._raise.columns(maps))
        maps = self._activated(maps)
        parts = [by_row.columns(by_column.rows(maps)) for by_column, by_row in self._lower]
        out = parts[0]
        for part in parts[1:]:
            out = out + part
        return out.permute(0, 3, 1, 2)


def _filtered(x: Tensor, taps: Tensor) -> Tensor:
    """A true convolution (flipped), without padding: along one axis and the other, or both at once."""
    c = x.shape[1]
    if taps.ndim == 2:
        return F.conv2d(x, _each(taps.flip(0, 1), c), groups=c)
    taps = taps.flip(0)
    return F.conv2d(F.conv2d(x, _each(taps[None], c), groups=c), _each(taps[:, None], c), groups=c)


def _each(taps: Tensor, channels: int) -> Tensor:
    """A depthwise kernel [channels, 1, h, w] of the same taps [h, w] for all."""
    return taps.expand(channels, 1, *taps.shape)


def _raised(x: Tensor, taps: Tensor, up: int, cut: int) -> Tensor:
    """`up` times the rate along both axes, the first `cut` columns, but no rows, cut away."""
    c = x.shape[1]
    x = F.conv_transpose2d(x, _each(taps[None], c), stride=(1, up), padding=(0, cut), groups=c)
    return F.conv_transpose2d(x, _each(taps[:, None], c), stride=(up, 1), groups=c)


def _separated(taps: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Pairs of filters, by column and by row, whose outer products add up to one for both at once."""
    u, s, v = torch.linalg.svd(taps.double())
    # What is left out is less than rounding: a sum of 144 products in float32.
    rest = s.flip(0).cumsum(0).flip(0)
    rank = max(1, int((rest > RANK_TOLERANCE * s[0]).sum()))
    return [((u[:, i] * s[i]).to(taps), v[i].to(taps)) for i in range(rank)]


class _Band:
    """A filter along one axis as products of windows with one block of its banded matrix."""

    def __init__(
        self,
        taps: Tensor,
        up: int,
        down: int,
        before: int,  # zeros in front of the zero-stuffed axis; negative: samples cut away
        n_out: int,  # results along the axis
        dtype: torch.dtype,
    ) -> None:
        self.n_out = n_out
        block = n_out if n_out <= 2 * BLOCK else BLOCK // down
        self._n_blocks = -(-n_out // block)
        self._step = max(1, block * down // up)  # samples that come in from a block to the next
        assert self._n_blocks == 1 or self._step * up == block * down, "blocks that differ"
        taps = taps.flip(0)
        # The first result takes samples from here on; negative: zeros in front of them.
        self._first = -(before // up)
        last = ((block - 1) * down + len(taps) - 1 - before) // up
        result = torch.arange(block, device=taps.device)[:, None]
        source = torch.arange(self._first, last + 1, device=taps.device)
        place = before + source * up - result * down  # of the tap that the two meet at
        is_met = (place >= 0) & (place < len(taps))
        met = taps[place.clamp(0, len(taps) - 1)]
        self._matrix = torch.where(is_met, met, taps.new_zeros(())).to(dtype)

    def rows(self, x: Tensor) -> Tensor:
        """[N, h, w, C] -> [N, n_out, w, C]."""
        w = x.shape[2]
        windows = self._windows(x, 1).permute(0, 1, 4, 2, 3).flatten(3)
        return (self._matrix @ windows).flatten(1, 2).unflatten(2, (w, -1))[:, : self.n_out]

    def columns(self, x: Tensor) -> Tensor:
        """[N, h, w, C] -> [N, h, n_out, C]."""
        windows = self._windows(x, 2).transpose(3, 4)
        return (self._matrix @ windows).flatten(2, 3)[:, :, : self.n_out]

    def _windows(self, x: Tensor, axis: int) -> Tensor:
        """What each block takes, as the last axis of what `unfold` makes."""
        width = self._matrix.shape[1]
        behind = (self._n_blocks - 1) * self._step + width + self._first - x.shape[axis]
        padded = F.pad(x, (0, 0) * (3 - axis) + (-self._first, behind))
        return padded.unfold(axis, width, self._step)
