"""StyleGAN2 (Karras et al. 2020, arXiv 1912.04958) at any resolution and width. Networks do no I/O."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generators import ops

Noise = Literal["const", "random", "none"]


@dataclass(frozen=True)
class GeneratorConfig:
    """The shape of a generator; everything that its weights do not say."""

    resolution: int  # height and width of the image, a power of two
    channels: tuple[int, ...]  # feature maps at 4, 8, ..., resolution
    z_dim: int = 512  # entries of the normal vector that the mapping takes
    w_dim: int = 512  # entries of one style vector
    n_mapping_layers: int = 8  # fully connected layers of the mapping
    mapping_lr_mul: float = 0.01  # learning-rate multiplier of the mapping, a factor of its weights

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))
        if self.resolution < 8 or self.resolution & (self.resolution - 1):
            raise ValueError(
                f"resolution must be a power of two of at least 8, not {self.resolution}"
            )
        if len(self.channels) != self.n_blocks:
            raise ValueError(
                f"{len(self.channels)} channel counts for {self.n_blocks} resolutions "
                f"(4 to {self.resolution})"
            )

    @property
    def n_blocks(self) -> int:
        """Resolutions from 4 up."""
        return int(math.log2(self.resolution)) - 1

    @property
    def n_styles(self) -> int:
        """Style vectors that the synthesis takes: one a convolution and one for the last colours."""
        return 2 * self.n_blocks

    @classmethod
    def standard(
        cls, resolution: int, channel_multiplier: int = 2, **others: Any
    ) -> GeneratorConfig:
        """The published widths: 512 up to 32 px, then halved with each doubling (config F: multiplier 2)."""
        sizes = [4 * 2**i for i in range(int(math.log2(resolution)) - 1)]
        channels = [min(512, 16384 * channel_multiplier // size) for size in sizes]
        return cls(resolution=resolution, channels=tuple(channels), **others)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class EqualLinear(nn.Module):
    """Fully connected layer whose weights are stored at unit variance and scaled at run time."""

    def __init__(
        self,
        n_in: int,  # entries of an input vector
        n_out: int,  # entries of an output vector
        bias: float = 0.0,  # initial bias
        lr_mul: float = 1.0,  # learning-rate multiplier: a factor of weight and bias
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_out, n_in) / lr_mul)
        self.bias = nn.Parameter(torch.full((n_out,), bias))
        self.weight_gain = lr_mul / math.sqrt(n_in)
        self.bias_gain = lr_mul

    def forward(self, x: Tensor) -> Tensor:
        """[N, n_in] -> [N, n_out]."""
        return F.linear(x, self.weight * self.weight_gain, self.bias * self.bias_gain)


class Mapping(nn.Module):
    """Normal vectors to style vectors."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.z_dim = config.z_dim
        widths = [config.z_dim] + [config.w_dim] * config.n_mapping_layers
        self.layers = nn.ModuleList(
            EqualLinear(a, b, lr_mul=config.mapping_lr_mul) for a, b in pairwise(widths)
        )
        # Mean of w over z: where truncation pulls to and where inversion starts.
        self.latent_avg: Tensor
        self.register_buffer("latent_avg", torch.zeros(config.w_dim))

    def forward(self, z: Tensor, truncation: float = 1.0) -> Tensor:
        """z [N, z_dim] -> w [N, w_dim], pulled to the average: avg + truncation * (w - avg)."""
        if z.ndim != 2 or z.shape[1] != self.z_dim:
            raise ValueError(f"z must be [N, {self.z_dim}], not {list(z.shape)}")
        w = z * torch.rsqrt(z.square().mean(dim=1, keepdim=True) + 1e-8)
        for layer in self.layers:
            w = F.leaky_relu(layer(w), ops.LEAKY_SLOPE) * ops.ACTIVATION_GAIN
        return w if truncation == 1.0 else self.latent_avg + truncation * (w - self.latent_avg)


class StyledConv(nn.Module):
    """One 3x3 layer of the synthesis."""

    def __init__(
        self,
        n_in: int,  # input channels
        n_out: int,  # output channels
        w_dim: int,  # entries of its style vector
        size: int,  # output height and width: the shape of its noise buffer
        up: bool,  # doubles height and width
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_out, n_in, 3, 3))
        self.affine = EqualLinear(w_dim, n_in, bias=1.0)
        self.bias = nn.Parameter(torch.zeros(n_out))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.noise: Tensor
        self.register_buffer("noise", torch.randn(1, 1, size, size))
        self.up = up
        self.weight_gain = 1 / math.sqrt(9 * n_in)

    def forward(self, x: Tensor, w: Tensor, noise: Noise, reference: bool = False) -> Tensor:
        """[N, n_in, h, w] and style vectors [N, w_dim] -> [N, n_out, size, size]."""
        added = None
        if noise == "const":
            added = self.noise * self.noise_strength
        elif noise == "random":
            fresh = torch.randn(len(x), *self.noise.shape[1:], device=x.device)
            added = fresh * self.noise_strength
        return ops.styled_conv2d(
            x,
            self.weight * self.weight_gain,
            self.affine(w),
            self.bias,
            added,
            up=self.up,
            reference=reference,
        )


class ToRGB(nn.Module):
    """Feature maps to colours."""

    def __init__(self, n_in: int, w_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, n_in, 1, 1))
        self.affine = EqualLinear(w_dim, n_in, bias=1.0)
        self.bias = nn.Parameter(torch.zeros(3))
        self.weight_gain = 1 / math.sqrt(n_in)

    def forward(self, x: Tensor, w: Tensor, reference: bool = False) -> Tensor:
        """[N, n_in, h, w] -> [N, 3, h, w] float32."""
        weight = self.weight * self.weight_gain
        return ops.to_rgb(x, weight, self.affine(w), self.bias, reference=reference)


class Synthesis(nn.Module):
    """Style vectors to images, with skip connections between the colours of each resolution."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.n_styles, self.w_dim = config.n_styles, config.w_dim
        # Dtype of the feature maps. Weights, styles and the image stay float32, so that half precision
        # costs accuracy only where it buys speed.
        self.compute_dtype = torch.float32
        # True computes the paper's formulation: the measure of the fast one, not for use.
        self.reference = False
        first = config.channels[0]
        self.const = nn.Parameter(torch.randn(1, first, 4, 4))
        convs = [StyledConv(first, first, config.w_dim, 4, up=False)]
        for level in range(1, config.n_blocks):
            n_in, n_out, size = config.channels[level - 1], config.channels[level], 4 * 2**level
            convs.append(StyledConv(n_in, n_out, config.w_dim, size, up=True))
            convs.append(StyledConv(n_out, n_out, config.w_dim, size, up=False))
        self.convs = nn.ModuleList(convs)
        self.to_rgbs = nn.ModuleList(ToRGB(c, config.w_dim) for c in config.channels)

    def forward(self, w_plus: Tensor, noise: Noise = "const") -> Tensor:
        """w_plus [N, n_styles, w_dim] -> images [N, 3, H, W] float32, nominally in [-1, 1].

        Args:
            noise: "const" adds the stored buffers, "random" fresh ones, "none" nothing.

        Raises:
            ValueError: another shape of ``w_plus`` or another word for ``noise``.
        """
        if w_plus.ndim != 3 or w_plus.shape[1:] != (self.n_styles, self.w_dim):
            raise ValueError(
                f"w_plus must be [N, {self.n_styles}, {self.w_dim}], not {list(w_plus.shape)}"
            )
        if noise not in ("const", "random", "none"):
            raise ValueError(f'noise must be "const", "random" or "none", not {noise!r}')
        styles = w_plus.float().unbind(1)
        x = self.const.to(self.compute_dtype).expand(len(w_plus), -1, -1, -1)
        if not self.reference:
            x = x.contiguous(memory_format=torch.channels_last)
        x = self.convs[0](x, styles[0], noise, self.reference)
        image = self.to_rgbs[0](x, styles[1], self.reference)
        for level in range(1, len(self.to_rgbs)):
            i = 2 * level - 1
            x = self.convs[i](x, styles[i], noise, self.reference)
            x = self.convs[i + 1](x, styles[i + 1], noise, self.reference)
            image = ops.upsample2d(image, reference=self.reference)
            image = image + self.to_rgbs[level](x, styles[i + 2], self.reference)
        return image


class Generator(nn.Module):
    """``mapping(z)`` and ``synthesis(w_plus)``."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.mapping = Mapping(config)
        self.synthesis = Synthesis(config)

    @property
    def resolution(self) -> int:
        return self.config.resolution

    @property
    def n_styles(self) -> int:
        return self.config.n_styles

    @property
    def w_dim(self) -> int:
        return self.config.w_dim

    @property
    def latent_avg(self) -> Tensor:
        """Average style vector [w_dim]."""
        return self.mapping.latent_avg

    def forward(self, z: Tensor, truncation: float = 1.0, noise: Noise = "const") -> Tensor:
        """z [N, z_dim] -> images [N, 3, H, W]: one style vector for every layer."""
        w = self.mapping(z, truncation)
        return self.synthesis(w[:, None].expand(-1, self.n_styles, -1), noise)

    @torch.inference_mode()
    def estimate_latent_avg(self, n_samples: int = 10_000, seed: int = 0) -> Tensor:
        """Mean of the mapping of ``n_samples`` normal vectors, [w_dim]; the same for the same seed."""
        source = torch.Generator().manual_seed(seed)
        z = torch.randn(n_samples, self.config.z_dim, generator=source)
        return self.mapping(z.to(self.latent_avg.device)).mean(dim=0).clone()
