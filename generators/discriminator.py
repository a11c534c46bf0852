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
MAX_LEVELS, MAX_MAPPING_LAYERS = 13, 100
# Of the labels' mapping (StyleGAN2-ADA).
LABELS_LR_MUL = 0.01


@dataclass(frozen=True)
class DiscriminatorConfig:
    """The shape of a discriminator."""

    resolution: int  # height and width of the image, a power of two
    channels: tuple[int, ...]  # feature maps at 4, 8, ..., resolution
    c_dim: int = 0  # entries of a label of a conditional discriminator; 0: it takes none
    n_mapping_layers: int = 8  # fully connected layers of the labels' mapping

    def __post_init__(self) -> None:
        channels = claims.require_sizes("channels", self.channels, claims.MAX_WIDTH)
        object.__setattr__(self, "channels", channels)
        claims.require_int("c_dim", self.c_dim, 0, claims.MAX_WIDTH)
        claims.require_int("n_mapping_layers", self.n_mapping_layers, 0, MAX_MAPPING_LAYERS)
        n = len(self.channels)
        if not 2 <= n <= MAX_LEVELS or self.resolution != 2 ** (n + 1):
            raise ValueError(
                f"{n} channel counts for a resolution of {claims.shown(self.resolution)}: one is "
                "needed for each of 4, 8, ..., resolution"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for a checkpoint's header."""
        plain = asdict(self)
        if not self.c_dim:  # headers from before there were labels stay what they are
            del plain["c_dim"], plain["n_mapping_layers"]
        return plain


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


class LabelMapping(nn.Module):
    """Labels to the vectors that features are projected on (arXiv 1802.05637, as in 2006.06676)."""

    def __init__(self, c_dim: int, width: int, n_layers: int) -> None:
        super().__init__()
        self.embed = EqualLinear(c_dim, width)
        self.layers = nn.ModuleList(
            EqualLinear(width, width, lr_mul=LABELS_LR_MUL) for _ in range(n_layers)
        )

    def forward(self, labels: Tensor) -> Tensor:
        """labels [N, c_dim] -> [N, width]."""
        x = ops.normalised(self.embed(labels))
        for layer in self.layers:
            x = F.leaky_relu(layer(x), ops.LEAKY_SLOPE) * ops.ACTIVATION_GAIN
        return x


class Discriminator(nn.Module):
    """Images, with labels if it is conditional, to one score each: high for real ones of that class."""

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
        c_dim = config.c_dim
        self.score = EqualLinear(last, last if c_dim else 1)
        self.label = LabelMapping(c_dim, last, config.n_mapping_layers) if c_dim else None

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """images [N, 3, H, W] in [-1, 1] -> scores [N]; they depend on what else is in the batch.

        Args:
            labels: [N, c_dim] of a conditional one: which class each image passes for.

        Raises:
            ValueError: images of another size, or labels that do not fit.
        """
        claims.require_labels(labels, len(images), self.config.c_dim, "discriminator")
        return self.score_of(self.features(images)[-1], labels)

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

    def score_of(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """The last of the feature maps, and the labels that :meth:`forward` takes -> scores [N]."""
        x = self.final_conv(minibatch_stddev(x.float()))
        x = F.leaky_relu(self.hidden(x.flatten(1)), ops.LEAKY_SLOPE) * ops.ACTIVATION_GAIN
        if self.label is None:
            return self.score(x)[:, 0]
        assert labels is not None, "required before"
        vectors = self.label(labels.to(x))
        return (self.score(x) * vectors).sum(dim=1) / math.sqrt(vectors.shape[1])
