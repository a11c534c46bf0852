"""Style heads: from a backbone's feature maps to style vectors, with the published key names."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from generators.layers import EqualLinear

CHANNELS = 512  # of the last feature map, of a head's layers and of a published w
# In the pyramid: the first styles read the coarsest map, the next ones the middle, the rest the finest.
_N_COARSE, _N_MIDDLE = 3, 4


class GradualStyleBlock(nn.Module):
    """One style from a feature map, halved until a single pixel is left (pSp, arXiv 2008.00951).

    [N, in_channels, h, w] with max(h, w) <= `size` -> [N, channels].
    """

    def __init__(self, in_channels: int, channels: int, size: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(int(math.log2(size))):
            layers += [nn.Conv2d(in_channels, channels, 3, 2, 1), nn.LeakyReLU(0.01)]
            in_channels = channels
        self.convs = nn.Sequential(*layers)
        self.linear = EqualLinear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.convs(x).flatten(1))


def _planar(x: Tensor) -> Tensor:
    """From the backbone's channels_last: on so few pixels, these convolutions run faster without."""
    return x.contiguous()


class BackboneHeads(nn.Module):
    """ReStyle-pSp (arXiv 2104.02699, section 3.2): every style from the last feature map.

    Unlike in pSp's pyramid, all heads read the same 16x16 map.
    """

    def __init__(self, n_styles: int) -> None:
        super().__init__()
        self.styles = nn.ModuleList(
            GradualStyleBlock(CHANNELS, CHANNELS, 16) for _ in range(n_styles)
        )

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Feature maps, finest first -> [N, n_styles, 512]."""
        last = _planar(maps[-1])
        return torch.stack([style(last) for style in self.styles], dim=1)


class ProgressiveHeads(nn.Module):
    """ReStyle-e4e: one w for all styles, and an offset from it for each style but the first.

    After e4e (arXiv 2102.02766, section 3.2), whose training adds one offset at a time.
    """

    def __init__(
        self,
        n_styles: int,
        stage: int | None = None,  # how many offsets are in use; None = all (inference)
    ) -> None:
        super().__init__()
        self.styles = nn.ModuleList(
            GradualStyleBlock(CHANNELS, CHANNELS, 16) for _ in range(n_styles)
        )
        self.stage = n_styles - 1 if stage is None else stage

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Feature maps, finest first -> [N, n_styles, 512]."""
        last = _planar(maps[-1])
        return _offsets(self.styles, [last] * len(self.styles), self.stage)


def _offsets(styles: nn.ModuleList, sources: list[Tensor], stage: int) -> Tensor:
    """The first style's w, repeated, and on it the offsets of as many styles as `stage` says."""
    used = [styles[i](sources[i]) for i in range(min(stage + 1, len(styles)))]
    return with_offsets(torch.stack(used, dim=1), len(styles))


def with_offsets(used: Tensor, n_styles: int) -> Tensor:
    """From a w and the offsets of the styles after it, [N, at most n_styles, 512], all styles."""
    first = used[:, :1]
    unused = first.expand(-1, n_styles - used.shape[1], -1)
    return torch.cat([first, first + used[:, 1:], unused], dim=1)


class Pyramid(nn.Module):
    """pSp (arXiv 2008.00951, section 3): coarse, middle and fine styles from maps of a pyramid.

    The 16x16 map, and those of 32x32 and 64x64 with the coarser one added to each.
    """

    def __init__(self, n_styles: int) -> None:
        super().__init__()
        self.styles = nn.ModuleList(
            GradualStyleBlock(CHANNELS, CHANNELS, 16 << level_of(i)) for i in range(n_styles)
        )
        self.latlayer1 = nn.Conv2d(256, CHANNELS, 1)
        self.latlayer2 = nn.Conv2d(128, CHANNELS, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Feature maps, finest first -> [N, n_styles, 512]."""
        sources = self._sources(maps)
        pairs = zip(self.styles, sources, strict=True)
        return torch.stack([style(source) for style, source in pairs], dim=1)

    def _sources(self, maps: list[Tensor]) -> list[Tensor]:
        """The map that each style reads."""
        coarse = maps[3]
        middle = upsampled(coarse, self.latlayer1(maps[2]))
        fine = upsampled(middle, self.latlayer2(maps[1]))
        levels = [_planar(level) for level in (coarse, middle, fine)]
        return [levels[level_of(i)] for i in range(len(self.styles))]


def level_of(style: int) -> int:
    """Level of the pyramid that a style reads: 0 = coarsest."""
    return (style >= _N_COARSE) + (style >= _N_COARSE + _N_MIDDLE)


def upsampled(x: Tensor, lateral: Tensor) -> Tensor:
    """A coarser map [N, c, h, w] brought to the size of a finer one, and added to it."""
    return lateral + F.interpolate(x, lateral.shape[2:], mode="bilinear", align_corners=True)


class ProgressivePyramid(Pyramid):
    """e4e (arXiv 2102.02766, section 3.2): one w, and offsets from it that the pyramid's maps give."""

    def __init__(
        self,
        n_styles: int,
        stage: int | None = None,  # how many offsets are in use; None = all (inference)
    ) -> None:
        super().__init__(n_styles)
        self.stage = n_styles - 1 if stage is None else stage

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Feature maps, finest first -> [N, n_styles, 512]."""
        return _offsets(self.styles, self._sources(maps), self.stage)


@torch.no_grad()
def forget_unused(heads: ProgressiveHeads | ProgressivePyramid) -> None:
    """Make the offsets of styles beyond the heads' stage zero, so that using them changes nothing."""
    for style in heads.styles[1 + heads.stage :]:
        for parameter in style.get_submodule("linear").parameters():
            parameter.zero_()


class PooledW(nn.Module):
    """pSp's baseline in W, and e4e's: the last feature map's mean makes one w for all styles."""

    def __init__(self, n_styles: int) -> None:
        super().__init__()
        self.n_styles = n_styles
        self.linear = EqualLinear(CHANNELS, CHANNELS)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Feature maps, finest first -> [N, n_styles, 512], the same vector n_styles times."""
        w = self.linear(maps[-1].mean(dim=(2, 3)))
        return w[:, None].expand(-1, self.n_styles, -1)


class DenseWPlus(nn.Module):
    """pSp's baseline in W+ (section 4.1): the last feature map, then two fully connected layers."""

    def __init__(self, n_styles: int) -> None:
        super().__init__()
        self.output_layer_2 = nn.Sequential(
            nn.BatchNorm2d(CHANNELS),
            nn.AdaptiveAvgPool2d(7),
            nn.Flatten(),
            nn.Linear(CHANNELS * 49, CHANNELS),
        )
        self.linear = EqualLinear(CHANNELS, CHANNELS * n_styles)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Feature maps, finest first -> [N, n_styles, 512]."""
        return self.linear(self.output_layer_2(maps[-1])).unflatten(1, (-1, CHANNELS))
