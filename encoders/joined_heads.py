"""Style heads for inference: all that read one feature map with one depth, computed as one."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.heads import (
    CHANNELS,
    BackboneHeads,
    GradualStyleBlock,
    ProgressiveHeads,
    ProgressivePyramid,
    Pyramid,
    level_of,
    upsampled,
    with_offsets,
)

_SLOPE = 0.01  # of the leaky rectifiers between a head's convolutions
_PRODUCTS = 4  # convolutions at the end of a head that leave at most 8x8 pixels


def fold_heads(heads: nn.Module, dtype: torch.dtype) -> nn.Module:
    """An inference-only twin of style heads: maps in `dtype`, finest first -> [N, n_styles, 512].

    Heads that are a few products anyway (`PooledW`, `DenseWPlus`) are copied as they are.
    """
    if isinstance(heads, Pyramid):
        return JoinedPyramid(heads, dtype)
    if isinstance(heads, BackboneHeads | ProgressiveHeads):
        return JoinedBackboneHeads(heads, dtype)
    return copy.deepcopy(heads).to(dtype).requires_grad_(False).eval()


class JoinedBackboneHeads(nn.Module):
    """`BackboneHeads` or `ProgressiveHeads`, at the stage that they are in."""

    def __init__(self, heads: BackboneHeads | ProgressiveHeads, dtype: torch.dtype) -> None:
        super().__init__()
        self.n_styles, self.adds_offsets = len(heads.styles), isinstance(heads, ProgressiveHeads)
        self.styles = JoinedStyles(_used(heads), dtype)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Feature maps, finest first -> [N, n_styles, 512]."""
        styles = self.styles(maps[-1])
        return with_offsets(styles, self.n_styles) if self.adds_offsets else styles


class JoinedPyramid(nn.Module):
    """`Pyramid` or `ProgressivePyramid`, at the stage that it is in."""

    def __init__(self, heads: Pyramid, dtype: torch.dtype) -> None:
        super().__init__()
        self.n_styles, self.adds_offsets = len(heads.styles), isinstance(heads, ProgressivePyramid)
        used = _used(heads)
        levels = [[s for i, s in enumerate(used) if level_of(i) == level] for level in range(3)]
        self.levels = nn.ModuleList(JoinedStyles(styles, dtype) for styles in levels if styles)
        laterals = nn.ModuleList([heads.latlayer1, heads.latlayer2][: len(self.levels) - 1])
        self.laterals = copy.deepcopy(laterals).to(dtype).requires_grad_(False)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Feature maps, finest first -> [N, n_styles, 512]."""
        sources = [maps[3]]
        for lateral, finer in zip(self.laterals, (maps[2], maps[1]), strict=False):
            sources.append(upsampled(sources[-1], lateral(finer)))
        pairs = zip(self.levels, sources, strict=True)
        styles = torch.cat([level(source) for level, source in pairs], dim=1)
        return with_offsets(styles, self.n_styles) if self.adds_offsets else styles


def _used(heads: BackboneHeads | ProgressiveHeads | Pyramid) -> list[GradualStyleBlock]:
    """The heads that are computed: the others' offsets are zero."""
    n = len(heads.styles)
    if isinstance(heads, ProgressiveHeads | ProgressivePyramid):
        n = heads.stage + 1
    return list(heads.styles[:n])  # type: ignore[arg-type]


class JoinedStyles(nn.Module):
    """Heads of one depth on one map: [N, 512, h, w] with max(h, w) <= 2 ** depth -> [N, n, 512].

    The first convolutions, which read the same, are one with n * 512 outputs; those that leave more
    than 8x8 pixels are one in groups. The others are matrix products of each head's weights with all
    windows of the batch: on so few pixels, most of the work is to read the weights, which a
    convolution would rearrange first.
    """

    def __init__(self, styles: Sequence[GradualStyleBlock], dtype: torch.dtype) -> None:
        super().__init__()
        self.n = n = len(styles)
        layers = [[style.convs[i] for style in styles] for i in range(0, len(styles[0].convs), 2)]
        weights, biases = (
            [torch.stack([conv.get_parameter(name) for conv in layer]) for layer in layers]
            for name in ("weight", "bias")
        )
        n_convs = max(1, len(layers) - _PRODUCTS)
        self.convs = nn.ModuleList(
            _JoinedConv(weights[i], biases[i], n if i else 1, dtype) for i in range(n_convs)
        )
        # Of the last window, around the first of at most 2x2 pixels, the rest is padding.
        weights[-1] = weights[-1][..., 1:, 1:]
        self.products = nn.ModuleList(
            _Products(weight.permute(0, 1, 3, 4, 2).flatten(2), bias, dtype)
            for weight, bias in zip(weights[n_convs:], biases[n_convs:], strict=True)
        )
        linears = [style.linear for style in styles]
        weight = torch.stack([linear.weight * linear.weight_gain for linear in linears])
        bias = torch.stack([linear.bias * linear.bias_gain for linear in linears])
        self.linear = _Products(weight, bias, dtype)

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = F.leaky_relu(conv(x), _SLOPE)
        y = x.unflatten(1, (self.n, CHANNELS)).permute(1, 0, 3, 4, 2)  # [n, N, h, w, 512]
        for product in self.products[:-1]:
            windows = _windows(y)
            y = F.leaky_relu(product(windows.flatten(1, 3)), _SLOPE)
            y = y.unflatten(1, windows.shape[1:4])
        pixels = F.pad(y, (0, 0, 0, 2 - y.shape[3], 0, 2 - y.shape[2])).flatten(2)
        y = F.leaky_relu(self.products[-1](pixels), _SLOPE)
        return self.linear(y).transpose(0, 1)


class _JoinedConv(nn.Module):
    """The convolutions of n heads: of stride 2, [N, groups * 512, h, w] -> [N, n * 512, h / 2, w / 2]."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, groups: int, dtype: torch.dtype) -> None:
        """Takes [n, 512, 512, 3, 3] and [n, 512]; one group: the heads read the same map."""
        super().__init__()
        # A GPU keeps the backbone's layout; a CPU is faster without it on so few pixels.
        on_cpu = weight.device.type == "cpu"
        self._format = torch.contiguous_format if on_cpu else torch.channels_last
        weight = weight.flatten(0, 1).to(dtype, memory_format=self._format)
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias.to(dtype).flatten())
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=self._format)
        return F.conv2d(x, self.weight, self.bias, 2, 1, groups=self.groups)


class _Products(nn.Module):
    """A linear layer for each head: [n, m, n_in] -> [n, m, n_out]."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> None:
        """Takes [n, n_out, n_in] and [n, n_out]."""
        super().__init__()
        self.register_buffer("weight", weight.to(dtype).contiguous())
        self.register_buffer("bias", bias.to(dtype)[:, None])

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x, self.weight.transpose(1, 2))


def _windows(y: Tensor) -> Tensor:
    """What a 3x3 convolution of stride 2 and padding 1 sees: [n, N, h, w, c] -> [n, N, h', w', 9 c]."""
    windows = F.pad(y, (0, 0, 1, 1, 1, 1)).unfold(2, 3, 2).unfold(3, 3, 2)
    return windows.permute(0, 1, 2, 3, 5, 6, 4).flatten(4)
