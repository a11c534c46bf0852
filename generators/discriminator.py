"""StyleGAN2's residual discriminator (arXiv 1912.04958) at any resolution and width."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generators import claims, ops
from generators.layers import RESIDUAL_GAIN, EqualLinear, normal

# Most images whose spread is measured together (arXiv 1710.10196, section 3).
STDDEV_GROUP = 4
STDDEV_EPS = 1e-8
# Far beyond any discriminator there is: what a damaged or hostile file may ask for.
MAX_LEVELS = 13


@dataclass(frozen=True)
class DiscriminatorConfig:
    """The shape of a discriminator."""

    resolution: int  # height and width of the image, a power of two
    channels: tuple[int, ...]  # feature maps at 4, 8, ..., resolution

    def __post_init__(self) -> None:
        channels = claims.require_sizes("channels", self.channels, claims.MAX_WIDTH)
        object.__setattr__(self, "channels", channels)
        n = len(self.channels)
        if not 2 <= n <= MAX_LEVELS or self.resolution != 2 ** (n + 1):
            raise ValueError(
                f"{n} channel counts for a resolution of {claims.shown(self.resolution)}: one is "
                "needed for each of 4, 8, ..., resolution"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for a checkpoint's header."""
        return asdict(self)


class EqualConv(nn.Module):
    """Convolution with scaled weights, bias and leaky ReLU; halves height and width if asked."""

    def __init__(
        self,
        n_in: int,  # input channels
        n_out: int,  # output channels
        kernel_size: int,  # 1 or 3
        down: bool = False,  # FIR filter, then stride 2
        activate: bool = True,  # bias and leaky ReLU
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(normal(n_out, n_in, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(n_out)) if activate else None
        self.weight_gain = 1 / math.sqrt(n_in * kernel_size**2)
        self.down = down

    def forward(self, x: Tensor) -> Tensor:
        """[N, n_in, h, w] -> [N, n_out, h, w], or half of h and w."""
        kernel_size = self.weight.shape[-1]
        padding = kernel_size // 2
        if self.down:
            x = ops.blur2d(x, padding + 1)
            padding = 0
        bias = self.bias if self.bias is None else self.bias.to(x.dtype)
        weight = (self.weight * self.weight_gain).to(x.dtype)
        out = F.conv2d(x, weight, bias, stride=2 if self.down else 1, padding=padding)
        if bias is None:
            return out
        return F.leaky_relu(out, ops.LEAKY_SLOPE) * ops.ACTIVATION_GAIN


class Block(nn.Module):
    """Two convolutions and a way around them, to half the resolution."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.conv0 = EqualConv(n_in, n_in, 3)
        self.conv1 = EqualConv(n_in, n_out, 3, down=True)
        self.skip = EqualConv(n_in, n_out, 1, down=True, activate=False)

    def forward(self, x: Tensor) -> Tensor:
        """[N, n_in, h, w] -> [N, n_out, h / 2, w / 2]."""
        return (self.conv1(self.conv0(x)) + self.skip(x)) * RESIDUAL_GAIN


def minibatch_stddev(x: Tensor) -> Tensor:
    """Append one channel: the standard deviation over a group of images, averaged over everything else.

    Image i is in one group with i + N / G, i + 2 N / G, ...; G is ``STDDEV_GROUP``, or N if that is less.

    Args:
        x: [N, C, H, W]; N is at most 4, or a multiple of 4.

    Raises:
        ValueError: another N.
    """
    n, c, h, w = x.shape
    group = min(n, STDDEV_GROUP)
    if n % group:
        raise ValueError(
            f"a batch of {n} images: the discriminator compares them in groups of {STDDEV_GROUP}, so "
            f"give at most {STDDEV_GROUP} or a multiple"
        )
    grouped = x.float().reshape(group, n // group, c, h, w)
    stddev = torch.sqrt(grouped.var(dim=0, unbiased=False) + STDDEV_EPS)
    mean = stddev.mean(dim=(1, 2, 3)).to(x.dtype).reshape(-1, 1, 1, 1)
    return torch.cat([x, mean.repeat(group, 1, h, w)], dim=1)


class Discriminator(nn.Module):
    """Images to one score each: high for real ones."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        # Dtype of the feature maps; weights, the comparison within the batch and scores stay float32.
        self.compute_dtype = torch.float32
        last = config.channels[0]
        self.from_rgb = EqualConv(3, config.channels[-1], 1)
        self.blocks = nn.ModuleList(Block(a, b) for a, b in pairwise(reversed(config.channels)))
        self.final_conv = EqualConv(last + 1, last, 3)
        self.hidden = EqualLinear(last * 16, last)
        self.score = EqualLinear(last, 1)

    def forward(self, images: Tensor) -> Tensor:
        """images [N, 3, H, W] in [-1, 1] -> scores [N]; they depend on what else is in the batch."""
        return self.score_of(self.features(images)[-1])

    def features(self, images: Tensor) -> list[Tensor]:
        """images [N, 3, H, W] in [-1, 1] -> the feature maps behind each block, finest first.

        Each image's own, whatever else is in the batch.
        """
        size = self.config.resolution
        if images.ndim != 4 or images.shape[1:] != (3, size, size):
            raise ValueError(f"images must be [N, 3, {size}, {size}], not {list(images.shape)}")
        layout = torch.channels_last  # convolves fastest
        x, maps = self.from_rgb(images.to(self.compute_dtype, memory_format=layout)), []
        for block in self.blocks:
            x = block(x)
            maps.append(x)
        return maps

    def score_of(self, x: Tensor) -> Tensor:
        """The last of the feature maps -> scores [N]."""
        x = self.final_conv(minibatch_stddev(x.float()))
        x = F.leaky_relu(self.hidden(x.flatten(1)), ops.LEAKY_SLOPE) * ops.ACTIVATION_GAIN
        return self.score(x)[:, 0]
