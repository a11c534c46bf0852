"""StyleGAN2's two layers, each in three formulations of the same product.

- "reference": the paper's: weights scaled for each sample, one grouped convolution.
- "in_place", for a CPU: one weight for the whole batch, styles on the activations, as little new memory as
  can be. A sample alone has its style and demodulation in the weight, which is less work.
- "fused", for a GPU: no depthwise convolution, nothing in place, so that a compiler can make one pass of
  all that stands between two convolutions.

What depends on a layer's weights alone is a :class:`ConvWeights` or :class:`RGBWeights`: made at each call
while the layer is trained, once while it is frozen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from generators import ops
from generators.frozen_conv import frozen_conv2d
from generators.ops import ACTIVATION_GAIN, DEMODULATION_EPS, LEAKY_SLOPE

Formulation = Literal["reference", "in_place", "fused"]
Upsampling = Literal["none", "transposed", "polyphase"]


@dataclass(frozen=True, eq=False)
class ConvWeights:
    """What the formulations multiply with in a styled convolution from I to O channels."""

    weight: Tensor  # [O, I, 3, 3] float32, scaled by the equalised learning rate
    kernel: Tensor  # the same as `up` says, in the dtype of the feature maps
    energy: Tensor  # [I, O] float32, the squares of `weight` summed over its taps
    bias: Tensor  # [O] float32
    up: Upsampling  # how height and width are doubled


@dataclass(frozen=True, eq=False)
class RGBWeights:
    """What the formulations multiply with on the way from I channels to colours."""

    weight: Tensor  # [3, I] float32, scaled
    bias: Tensor  # [3] float32


def conv_weights(
    weight: Tensor, bias: Tensor, up: Upsampling = "none", dtype: torch.dtype = torch.float32
) -> ConvWeights:
    """Weights for maps of a dtype, differentiably.

    Args:
        weight: [O, I, 3, 3] float32, scaled by the equalised learning rate; bias: [O] float32.
    """
    if up == "polyphase":
        kernel = polyphase(weight)
    else:
        kernel = weight.transpose(0, 1) if up == "transposed" else weight
    kernel = kernel.to(dtype).contiguous(memory_format=torch.channels_last)
    return ConvWeights(weight, kernel, weight.square().sum(dim=(2, 3)).t(), bias, up)


def polyphase(weight: Tensor) -> Tensor:
    """Transposed convolution of stride 2 and FIR filter as one convolution to four times the channels.

    Of the 6x6 taps of the two together each pixel of the result meets 3x3, those of its phase: whether its
    row and its column are even or odd.

    Args:
        weight: [O, I, 3, 3].

    Returns: [4 O, I, 3, 3] for a padding of 1, its channels ordered (row phase, column phase, O), as
        :func:`interleaved` takes them.
    """
    o, i = weight.shape[:2]
    taps = weight.reshape(o * i, 9) @ _phase_matrix(weight.device)
    return taps.reshape(o, i, 4, 3, 3).permute(2, 0, 1, 3, 4).reshape(4 * o, i, 3, 3)


def _phase_matrix(device: torch.device) -> Tensor:
    """[9, 36]: from the taps of a 3x3 kernel to those of its four phases, both row by row."""
    fir = ops.fir_kernel(torch.float32, device, gain=4.0)
    basis = torch.eye(9, device=device).reshape(9, 1, 3, 3)
    # A true convolution of the two kernels: 6x6. (The filter is the same when flipped.)
    full = F.conv2d(F.pad(basis, (3, 3, 3, 3)), fir[None, None])[:, 0]
    phases = [full[:, dy::2, dx::2].flip(1, 2) for dy in (0, 1) for dx in (0, 1)]
    return torch.stack(phases, dim=1).reshape(9, 36)


def interleaved(x: Tensor) -> Tensor:
    """Phases to pixels: [N, 4 O, h, w], channels (row phase, column phase, O) -> [N, O, 2h, 2w].

    Unlike ``pixel_shuffle``'s order, this one leaves the O channels of a pixel side by side in channels_last:
    whole runs are moved.
    """
    n, c, h, w = x.shape
    phases = x.reshape(n, 2, 2, c // 4, h, w).permute(0, 4, 1, 5, 2, 3)  # [N, h, 2, w, 2, O]
    return phases.reshape(n, 2 * h, 2 * w, c // 4).permute(0, 3, 1, 2)


def styled_conv2d(
    x: Tensor,
    weights: ConvWeights,
    style: Tensor,
    noise: Tensor | None = None,
    *,
    gain: float = ACTIVATION_GAIN,
    clamp: float | None = None,
    formulation: Formulation = "in_place",
) -> Tensor:
    """Modulated, demodulated 3x3 convolution, noise, bias, leaky ReLU: one layer of the synthesis.

    Args:
        x: feature maps [N, I, H, W], channels_last is fastest.
        style: [N, I] float32.
        noise: [N or 1, 1, H', W'], its strength multiplied in, or None.
        gain: factor of the result.
        clamp: bound of the result's absolute value, or None.

    Returns: [N, O, H', W'] in the dtype of ``x``; twice the height and width if the weights double them.
    """
    n, i = x.shape[:2]
    assert style.shape == (n, i), f"style {tuple(style.shape)} for feature maps {tuple(x.shape)}"
    assert weights.weight.shape[1] == i, f"weight {weights.weight.shape} for {i} channels"
    if formulation == "reference":
        out = _reference(x, weights, style, noise) * gain
    elif formulation == "fused":
        out = _fused(x, weights, style, noise, gain)
    else:
        out = _in_place(x, weights, style, noise, gain)
    return ops.bound(out, clamp)


def _reference(x: Tensor, weights: ConvWeights, style: Tensor, noise: Tensor | None) -> Tensor:
    own = ops.modulate_weight(weights.weight, style, demodulate=True)
    out = _grouped_conv(x, own, up=weights.up != "none")
    if noise is not None:
        out = out + noise.to(out.dtype)
    return F.leaky_relu(out + weights.bias.to(out.dtype)[:, None, None], LEAKY_SLOPE)


def _grouped_conv(x: Tensor, weights: Tensor, up: bool) -> Tensor:
    """One grouped convolution in which every sample has its own weights [N, O, I, k, k]."""
    n, i, h, w = x.shape
    o, k = weights.shape[1], weights.shape[-1]
    x = x.reshape(1, n * i, h, w)
    weights = weights.to(x.dtype)
    if not up:
        out = F.conv2d(x, weights.reshape(n * o, i, k, k), padding=k // 2, groups=n)
        return out.reshape(n, o, h, w)
    out = F.conv_transpose2d(x, weights.transpose(1, 2).reshape(n * i, o, k, k), stride=2, groups=n)
    out = out.reshape(n, o, 2 * h + 1, 2 * w + 1)
    return ops.upfirdn2d(out, ops.fir_kernel(x.dtype, x.device, gain=4.0), up=1, pad=(1, 1))


def _balanced(weights: ConvWeights, style: Tensor, gain: float) -> tuple[Tensor, Tensor]:
    """Styles [N, I] and factors of the outputs [N, O] that together modulate and demodulate.

    Demodulation cancels any factor of the style, so its largest entry is set to 1: at half precision neither
    product overflows. lrelu(gain * v) = gain * lrelu(v): the gain goes where it costs nothing.
    """
    style = style / style.abs().amax(dim=1, keepdim=True).clamp_min(1e-12)
    return style, torch.rsqrt(style.square() @ weights.energy + DEMODULATION_EPS) * gain


def _in_place(
    x: Tensor, weights: ConvWeights, style: Tensor, noise: Tensor | None, gain: float
) -> Tensor:
    dtype = x.dtype
    bias = (weights.bias * gain).to(dtype)
    if _is_descent(x, weights, style, noise):
        style, scale = _balanced(weights, style, gain)
        noise = None if noise is None else noise.mul(gain).to(dtype)
        doubles = weights.up == "transposed"
        return frozen_conv2d(
            x, style.to(dtype), scale.to(dtype), weights.kernel, bias, noise, doubles
        )
    if len(x) == 1:
        # One sample: scaling the weights is cheaper than scaling the feature maps, twice.
        own = ops.modulate_weight(weights.weight, style, demodulate=True)[0] * gain
        kernel = own.transpose(0, 1) if weights.up == "transposed" else own
        out = _planar_conv(x, kernel.to(dtype), bias, weights.up)
    else:
        style, scale = _balanced(weights, style, gain)
        out = _planar_conv(x * style.to(dtype)[:, :, None, None], weights.kernel, None, weights.up)
        out = torch.addcmul(bias[:, None, None], out, scale.to(dtype)[:, :, None, None])
    # In place from here: at 1024 px a fresh feature map costs more than the arithmetic on it.
    if noise is not None:
        out = out.add_(noise.mul(gain).to(dtype))
    return F.leaky_relu_(out, LEAKY_SLOPE)


def _is_descent(x: Tensor, weights: ConvWeights, style: Tensor, noise: Tensor | None) -> bool:
    """Whether gradients are asked for by latents, and by nothing that is a weight."""
    if not torch.is_grad_enabled() or not (x.requires_grad or style.requires_grad):
        return False
    constants = (weights.weight, weights.kernel, weights.bias, *(() if noise is None else (noise,)))
    return not any(each.requires_grad for each in constants)


def _planar_conv(x: Tensor, kernel: Tensor, bias: Tensor | None, up: Upsampling) -> Tensor:
    """The fastest on a CPU: bias [O] added on the way out, a depthwise filter."""
    if up == "none":
        return F.conv2d(x, kernel.contiguous(memory_format=torch.channels_last), bias, padding=1)
    assert up == "transposed", up
    out = F.conv_transpose2d(x, kernel, stride=2)
    blur = ops.fir_kernel(x.dtype, x.device, gain=4.0).expand(out.shape[1], 1, 4, 4)
    return F.conv2d(out, blur, bias, padding=1, groups=out.shape[1])


def _fused(
    x: Tensor, weights: ConvWeights, style: Tensor, noise: Tensor | None, gain: float
) -> Tensor:
    dtype = x.dtype
    style, scale = _balanced(weights, style, gain)
    out = _phased_conv(x * style.to(dtype)[:, :, None, None], weights)
    bias = (weights.bias * gain).to(dtype)
    out = torch.addcmul(bias[:, None, None], out, scale.to(dtype)[:, :, None, None])
    if noise is not None:
        out = out + noise.mul(gain).to(dtype)
    return F.leaky_relu(out, LEAKY_SLOPE)


def _phased_conv(x: Tensor, weights: ConvWeights) -> Tensor:
    """Without a depthwise convolution."""
    if weights.up == "transposed":
        out = F.conv_transpose2d(x, weights.kernel, stride=2)
        return ops.shifted_blur2d(out, pad=1, gain=4.0)
    out = F.conv2d(x, weights.kernel, padding=1)
    return interleaved(out) if weights.up == "polyphase" else out


def to_rgb(
    x: Tensor,
    weights: RGBWeights,
    style: Tensor,
    *,
    clamp: float | None = None,
    formulation: Formulation = "in_place",
) -> Tensor:
    """Modulated 1x1 convolution to colours, without demodulation.

    Args:
        x: [N, I, H, W]; style: [N, I] float32; clamp: bound of the result's absolute value, or None.

    Returns: [N, 3, H, W] float32, whatever the dtype of ``x``: the image is summed in float32.
    """
    own = weights.weight[None] * style[:, None]  # [N, 3, I]
    if formulation == "reference":
        out = _grouped_conv(x, own[..., None, None], up=False)
    elif formulation == "fused":
        out = torch.einsum("nihw,noi->nohw", x, own.to(x.dtype))
    elif torch.is_grad_enabled():
        # Pixels as the rows of a matrix: so are their gradients, side by side as the next layer takes them.
        pixels = x.permute(0, 2, 3, 1).flatten(1, 2) @ own.to(x.dtype).transpose(1, 2)
        out = pixels.unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)
    else:
        # Three outputs are little work: each sample's own weights on its own pixels, nothing copied.
        samples = zip(x.split(1), own.to(x.dtype)[..., None, None].unbind(), strict=True)
        out = torch.cat([F.conv2d(one, weight) for one, weight in samples])
    return ops.bound(out.float() + weights.bias[:, None, None], clamp)
