"""A compact encoder of our own: a U-Net with style heads, from images straight to style vectors."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from generators import claims

_MAX_RESOLUTION = 1 << 12


@dataclass(frozen=True)
class UNetConfig:
    """Shape of a `UNet`. The defaults have 3.4 million parameters."""

    resolution: int = 64  # height and width of the input, a power of two
    n_styles: int = 10  # style vectors to predict: 2 log2(generator resolution) - 2
    w_dim: int = 128  # width of a style vector
    in_channels: int = 6  # 6 = image beside current reconstruction
    widths: tuple[int, ...] = (32, 64, 128, 144, 160)  # channels at 1/1, 1/2, 1/4, ... of the input
    n_levels: int = 3  # how many levels, from the bottom up, have style heads
    head_channels: int = 48  # channels of the 4x4 map that a head's linear layer reads
    n_groups: int = 8  # groups of each GroupNorm; divides every width

    def __post_init__(self) -> None:
        widths = claims.require_sizes("widths", self.widths, claims.MAX_WIDTH)
        object.__setattr__(self, "widths", widths)
        claims.require_int("resolution", self.resolution, 4, _MAX_RESOLUTION)
        for name in ("w_dim", "in_channels", "n_levels", "head_channels", "n_groups"):
            claims.require_int(name, getattr(self, name), 1, claims.MAX_WIDTH)
        claims.require_int("n_styles", self.n_styles, 1, claims.MAX_STYLES)
        if not widths:
            raise ValueError("A U-Net needs widths, one a level")
        bottom = self.resolution >> (len(self.widths) - 1)
        if self.resolution & (self.resolution - 1) or bottom < 4:
            raise ValueError(
                f"A U-Net with {len(self.widths)} levels needs a resolution that is a power of two "
                f"and at least {4 << (len(self.widths) - 1)}, not {self.resolution}"
            )
        if not 1 <= self.n_levels <= min(len(self.widths), self.n_styles):
            raise ValueError(
                f"n_levels is {self.n_levels}; it must be between 1 and the number of levels "
                f"({len(self.widths)}) and of styles ({self.n_styles})"
            )
        if any(width % self.n_groups for width in self.widths):
            raise ValueError(f"Every width of {self.widths} must be divisible by {self.n_groups}")


class _ResidualBlock(nn.Module):
    """Pre-activation residual block (He et al. 2016, arXiv 1603.05027).

    GroupNorm sees one image at a time, so a result does not depend on its neighbours; the stream
    beside it stays unnormalised and carries absolute colour and brightness.
    """

    def __init__(self, in_channels: int, channels: int, stride: int, n_groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(n_groups, in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1)
        self.norm2 = nn.GroupNorm(n_groups, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1)
        self.skip = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        shortcut = F.avg_pool2d(x, self.stride) if self.stride > 1 else x
        return h + self.skip(shortcut)


class _StyleHead(nn.Module):
    """[N, channels, size, size] -> [N, n_styles, w_dim]: strided convolutions to 4x4, then linear.

    The linear layer sees positions, which global pooling would hide.
    """

    def __init__(self, channels: int, size: int, n_styles: int, config: UNetConfig) -> None:
        super().__init__()
        n_halvings = int(math.log2(size)) - 2
        layers: list[nn.Module] = []
        for i in range(max(n_halvings, 1)):
            stride = 2 if i < n_halvings else 1
            layers += [nn.Conv2d(channels, config.head_channels, 3, stride, 1), nn.SiLU()]
            channels = config.head_channels
        self.convs = nn.Sequential(*layers)
        self.linear = nn.Linear(channels * 16, n_styles * config.w_dim)
        # An untrained encoder then leaves every image at the average latent, from where the first
        # training steps are small.
        # On the device "meta" torch would import its compiler, a second and a half, to draw nothing.
        if not self.linear.weight.is_meta:
            nn.init.normal_(self.linear.weight, std=0.01 / math.sqrt(self.linear.in_features))
        nn.init.zeros_(self.linear.bias)
        self.w_dim = config.w_dim

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.convs(x).flatten(1)).unflatten(1, (-1, self.w_dim))


class UNet(nn.Module):
    """A compact encoder: contracting path, expanding path with skips, style heads on its maps.

    After Ronneberger et al. 2015 (arXiv 1505.04597); as in pSp (arXiv 2008.00951), coarse styles
    are read from the coarsest map and fine ones from the finest.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths, groups = config.widths, config.n_groups
        self.stem = nn.Conv2d(config.in_channels, widths[0], 3, 1, 1)
        self.down = nn.ModuleList(
            _ResidualBlock(above, below, 2, groups) for above, below in itertools.pairwise(widths)
        )
        # Level 0 is the bottom; the deepest n_levels maps are rebuilt on the way up.
        levels = list(reversed(widths))[: config.n_levels]
        self.up = nn.ModuleList(
            _ResidualBlock(below + above, above, 1, groups)
            for below, above in itertools.pairwise(levels)
        )
        bottom = config.resolution >> (len(widths) - 1)
        shares = [
            config.n_styles // config.n_levels + (i < config.n_styles % config.n_levels)
            for i in range(config.n_levels)
        ]
        self.heads = nn.ModuleList(
            _StyleHead(width, bottom << i, share, config)
            for i, (width, share) in enumerate(zip(levels, shares, strict=True))
        )

    def forward(self, x: Tensor) -> Tensor:
        """[N, in_channels, resolution, resolution] -> style deltas [N, n_styles, w_dim]."""
        x = self.stem(x.contiguous(memory_format=torch.channels_last))
        maps = [x]
        for block in self.down:
            x = block(x)
            maps.append(x)
        styles = [self.heads[0](x)]
        for block, head, lateral in zip(self.up, self.heads[1:], maps[-2::-1], strict=False):
            grown = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = block(torch.cat([grown, lateral], dim=1))
            styles.append(head(x))
        return torch.cat(styles, dim=1)
