"""Layers of StyleGAN2 (arXiv 1912.04958) that its networks are made of."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generators import ops
from generators.styled_conv import (
    ConvWeights,
    Formulation,
    RGBWeights,
    Upsampling,
    conv_weights,
    styled_conv2d,
    to_rgb,
)

# Keeps the variance of the sum of a block and the way around it at 1.
RESIDUAL_GAIN = math.sqrt(0.5)


def normal(*shape: int, std: float = 1.0) -> Tensor:
    """Initial weights, normal with mean 0; left unset on the device "meta"."""
    values = torch.empty(shape)
    # Random numbers without memory exist in torch too, but the first ones load its compiler: 2 s, 70 MB.
    return values if values.is_meta else values.normal_(std=std)


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
        self.weight = nn.Parameter(normal(n_out, n_in, std=1 / lr_mul))
        self.bias = nn.Parameter(torch.full((n_out,), bias))
        self.weight_gain = lr_mul / math.sqrt(n_in)
        self.bias_gain = lr_mul

    def forward(self, x: Tensor) -> Tensor:
        """[N, n_in] -> [N, n_out]."""
        return F.linear(x, self.weight * self.weight_gain, self.bias * self.bias_gain)


class StyledConv(nn.Module):
    """One 3x3 layer of the synthesis."""

    def __init__(
        self,
        n_in: int,  # input channels
        n_out: int,  # output channels
        w_dim: int,  # entries of its style vector
        size: int,  # output height and width: the shape of its noise buffer
        up: bool,  # doubles height and width
        gain: float = 1.0,  # factor of the result, and of its bound
        clamp: float | None = None,  # bound of the result's absolute value
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(normal(n_out, n_in, 3, 3))
        self.affine = EqualLinear(w_dim, n_in, bias=1.0)
        self.bias = nn.Parameter(torch.zeros(n_out))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.noise: Tensor
        self.register_buffer("noise", normal(1, 1, size, size))
        self.up = up
        self.weight_gain = 1 / math.sqrt(9 * n_in)
        self.gain = gain * ops.ACTIVATION_GAIN
        self.clamp = None if clamp is None else clamp * gain

    def weights(self, up: Upsampling, dtype: torch.dtype) -> ConvWeights:
        """Its weights for feature maps of a dtype, with the given way of doubling if it doubles."""
        scaled = self.weight * self.weight_gain
        return conv_weights(scaled, self.bias, up if self.up else "none", dtype)

    def forward(
        self,
        x: Tensor,
        style: Tensor,
        noise: str,  # "const", "random" or "none"
        weights: ConvWeights,
        formulation: Formulation,
    ) -> Tensor:
        """[N, n_in, h, w] and styles [N, n_in], as its affine layer gives them -> [N, n_out, size, size]."""
        added = None
        if noise == "const":
            added = self.noise * self.noise_strength
        elif noise == "random":
            fresh = torch.randn(len(x), *self.noise.shape[1:], device=x.device)
            added = fresh * self.noise_strength
        return styled_conv2d(
            x, weights, style, added, gain=self.gain, clamp=self.clamp, formulation=formulation
        )


class ToRGB(nn.Module):
    """Feature maps to colours."""

    def __init__(
        self,
        n_in: int,  # input channels
        w_dim: int,  # entries of its style vector
        clamp: float | None = None,  # bound of the colours' absolute value
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(normal(3, n_in, 1, 1))
        self.affine = EqualLinear(w_dim, n_in, bias=1.0)
        self.bias = nn.Parameter(torch.zeros(3))
        self.clamp = clamp
        self.weight_gain = 1 / math.sqrt(n_in)

    def weights(self) -> RGBWeights:
        """Its weights as the formulations take them."""
        return RGBWeights(self.weight[:, :, 0, 0] * self.weight_gain, self.bias)

    def forward(
        self, x: Tensor, style: Tensor, weights: RGBWeights, formulation: Formulation
    ) -> Tensor:
        """[N, n_in, h, w] and styles [N, n_in], as its affine layer gives them -> [N, 3, h, w] float32."""
        return to_rgb(x, weights, style, clamp=self.clamp, formulation=formulation)


class Residual(nn.Module):
    """The way around a block of the "resnet" architecture."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(normal(n_out, n_in, 1, 1))
        self.weight_gain = RESIDUAL_GAIN / math.sqrt(n_in)

    def forward(self, x: Tensor, reference: bool = False) -> Tensor:
        """[N, n_in, h, w] -> [N, n_out, 2h, 2w]."""
        weight = (self.weight * self.weight_gain).to(x.dtype)
        return ops.upsample2d(F.conv2d(x, weight), reference=reference)


class Styles:
    """The affine layers of a synthesis together: one batched product for all of the same width."""

    def __init__(
        self,
        layers: Sequence[EqualLinear],  # one for each convolution or colour
        sources: Sequence[int],  # which style vector each of them takes
    ) -> None:
        widths = [layer.weight.shape[0] for layer in layers]
        self._groups = []
        for width in dict.fromkeys(widths):
            places = [i for i, n in enumerate(widths) if n == width]
            own = [layers[i] for i in places]
            weight = torch.stack([layer.weight.t() * layer.weight_gain for layer in own])
            bias = torch.stack([layer.bias[None] * layer.bias_gain for layer in own])
            self._groups.append((places, [sources[i] for i in places], weight, bias))

    def __call__(self, w_plus: Tensor) -> list[Tensor]:
        """[N, n_styles, w_dim] float32 -> the style of each layer, [N, n_in]."""
        vectors = w_plus.unbind(1)
        styles_by_place: dict[int, Tensor] = {}
        for places, sources, weight, bias in self._groups:
            styles = torch.baddbmm(bias, torch.stack([vectors[i] for i in sources]), weight)
            styles_by_place.update(zip(places, styles.unbind(), strict=True))
        return [styles_by_place[i] for i in range(len(styles_by_place))]
