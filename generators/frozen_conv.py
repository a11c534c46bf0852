"""A styled convolution whose weights stand still, with a derivative of its own: for descents on latents.

torch's own derivative keeps four maps of each layer and makes a new one for every product on the way back;
for a sample alone it computes the derivative of the weights too, only to sum it up to that of a style. Here
the forward is in place, its result is all that is kept beside its input, and the sums over pixels that
styles and demodulation need are taken block by block, while a block is in the cache.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from generators import ops
from generators.ops import LEAKY_SLOPE

# Entries of a product that is summed up before the next is made: of float32 a megabyte.
BLOCK = 1 << 18


def frozen_conv2d(
    x: Tensor,
    style: Tensor,
    scale: Tensor,
    kernel: Tensor,
    bias: Tensor,
    noise: Tensor | None,
    doubles: bool,
) -> Tensor:
    """lrelu(scale * conv(style * x) + bias + noise), differentiable once, by ``x``, ``style`` and ``scale``.

    Args:
        x: feature maps [N, I, H, W]; style: [N, I]; scale: [N, O], nowhere zero; both in the dtype of ``x``.
        kernel: [O, I, 3, 3], or of a layer that doubles height and width [I, O, 3, 3].
        bias: [O]; noise: [N or 1, 1, H', W'] or None; in the dtype of ``x``, and not asked for gradients.

    Returns: [N, O, H', W'].
    """
    return _FrozenConv.apply(x, style, scale, kernel, bias, noise, doubles)


class _FrozenConv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        style: Tensor,
        scale: Tensor,
        kernel: Tensor,
        bias: Tensor,
        noise: Tensor | None,
        doubles: bool,
    ) -> Tensor:
        out = _conv(x * style[:, :, None, None], kernel, doubles)
        torch.addcmul(bias[:, None, None], out, scale[:, :, None, None], out=out)
        if noise is not None:
            out.add_(noise)
        F.leaky_relu_(out, LEAKY_SLOPE)
        ctx.doubles = doubles
        ctx.save_for_backward(x, style, scale, kernel, bias, noise, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, style, scale, kernel, bias, noise, out = ctx.saved_tensors
        # Before the activation v, lrelu'(v) * v = lrelu(v): the sum over g * v needs no v.
        of_scale = _summed_products(gradient, out)
        inner = torch.ops.aten.leaky_relu_backward(gradient, out, LEAKY_SLOPE, True)
        of_scale -= _summed_with(inner, bias, noise)
        of_scale /= scale.float()
        inner = _conv_derivative(inner.mul_(scale[:, :, None, None]), kernel, ctx.doubles)
        of_style = _summed_products(inner, x)
        of_x = inner.mul_(style[:, :, None, None]) if ctx.needs_input_grad[0] else None
        return of_x, of_style.to(style.dtype), of_scale.to(scale.dtype), *[None] * 4


def _conv(x: Tensor, kernel: Tensor, doubles: bool) -> Tensor:
    if not doubles:
        return F.conv2d(x, kernel, padding=1)
    out = F.conv_transpose2d(x, kernel, stride=2)
    return F.conv2d(out, _blur(out), padding=1, groups=out.shape[1])


def _conv_derivative(gradient: Tensor, kernel: Tensor, doubles: bool) -> Tensor:
    """By its input: each convolution's transpose."""
    if not doubles:
        return F.conv_transpose2d(gradient, kernel, padding=1)
    inner = F.conv2d(gradient, _blur(gradient), padding=2, groups=gradient.shape[1])
    return F.conv2d(inner, kernel, stride=2)


def _blur(x: Tensor) -> Tensor:
    """The filter, the same when flipped, for each channel of x."""
    return ops.fir_kernel(x.dtype, x.device, gain=4.0).expand(x.shape[1], 1, 4, 4)


def _summed_products(a: Tensor, b: Tensor) -> Tensor:
    """The product of two maps [N, C, H, W], summed over pixels: [N, C] float32."""
    n, c, _, w = a.shape
    rows = max(1, BLOCK // (c * w))
    total = torch.zeros(n, c, device=a.device)
    for i in range(n):
        for ours, theirs in zip(a[i].split(rows, 1), b[i].split(rows, 1), strict=True):
            total[i] += (ours * theirs).sum((1, 2), dtype=torch.float32)
    return total


def _summed_with(x: Tensor, bias: Tensor, noise: Tensor | None) -> Tensor:
    """x [N, C, H, W] times what was added, bias and noise, summed over pixels: [N, C] float32."""
    pixels = x.permute(0, 2, 3, 1).flatten(1, 2)  # [N, H W, C], of channels_last nothing is copied
    ones = pixels.new_ones(1, 1, pixels.shape[1])
    total = (ones @ pixels)[:, 0].float() * bias.float()
    if noise is not None:
        total += (noise.flatten(2) @ pixels)[:, 0].float()
    return total
