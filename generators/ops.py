"""StyleGAN2's operations, each as a readable reference and a fast path behind one function.

The two give the same numbers in float32 (``tests/generators/test_ops.py``). The reference follows the
paper: weights scaled for each sample, one grouped convolution. The fast path computes the same product
in a cheaper order, see :func:`styled_conv2d`. Nothing here compiles at import.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# Separable FIR of StyleGAN2 (Karras et al. 2020, arXiv 1912.04958, appendix B), before normalisation.
FIR_TAPS = (1.0, 3.0, 3.0, 1.0)
LEAKY_SLOPE = 0.2
# Keeps the variance of an activation at 1 (equalised learning rate).
ACTIVATION_GAIN = math.sqrt(2.0)
DEMODULATION_EPS = 1e-8


def fir_kernel(dtype: torch.dtype, device: torch.device, gain: float = 1.0) -> Tensor:
    """The 4x4 low-pass filter, [4, 4], its sum ``gain``."""
    taps = torch.tensor(FIR_TAPS, dtype=torch.float32, device=device)
    kernel = torch.outer(taps, taps)
    return (kernel * (gain / kernel.sum())).to(dtype)


def upfirdn2d(x: Tensor, kernel: Tensor, up: int, pad: tuple[int, int]) -> Tensor:
    """Zero-stuff by ``up``, pad by (before, after) on both axes, filter: the definition, not the fast way.

    Args:
        x: [N, C, H, W].
        kernel: [kh, kw], applied as a true convolution (flipped).
    """
    n, c, h, w = x.shape
    stuffed = x.new_zeros(n, c, h, up, w, up)
    stuffed[:, :, :, 0, :, 0] = x
    padded = F.pad(stuffed.reshape(n, c, h * up, w * up), (*pad, *pad))
    weight = kernel.flip(0, 1).to(x.dtype)[None, None].expand(c, 1, *kernel.shape)
    return F.conv2d(padded, weight, groups=c)


def upsample2d(x: Tensor, *, reference: bool = False) -> Tensor:
    """Double height and width of [N, C, H, W] with the FIR filter; zeros lie outside the image."""
    if reference:
        return upfirdn2d(x, fir_kernel(x.dtype, x.device, gain=4.0), up=2, pad=(2, 1))
    # [1, 3, 3, 1] / 4 at stride 2 *is* bilinear interpolation, but for the border, where interpolation
    # repeats the edge pixel: a border of zeros that is cut away afterwards makes them equal.
    padded = F.pad(x, (1, 1, 1, 1))
    return F.interpolate(padded, scale_factor=2, mode="bilinear", align_corners=False)[
        :, :, 2:-2, 2:-2
    ]


def blur2d(x: Tensor, pad: int) -> Tensor:
    """[N, C, H, W] under the FIR filter with ``pad`` zeros on each side: 3 pixels less than padded."""
    c = x.shape[1]
    return F.conv2d(x, fir_kernel(x.dtype, x.device).expand(c, 1, 4, 4), padding=pad, groups=c)


def modulate_weight(weight: Tensor, style: Tensor, demodulate: bool) -> Tensor:
    """Weights of each sample, [N, O, I, k, k] (equations 1 and 3 of arXiv 1912.04958).

    Args:
        weight: [O, I, k, k], already scaled by the equalised learning rate.
        style: [N, I].
    """
    scaled = weight[None] * style[:, None, :, None, None]
    if demodulate:
        norm = scaled.square().sum(dim=(2, 3, 4), keepdim=True)
        scaled = scaled * torch.rsqrt(norm + DEMODULATION_EPS)
    return scaled


def _reference_conv(x: Tensor, weights: Tensor, up: bool) -> Tensor:
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
    return upfirdn2d(out, fir_kernel(x.dtype, x.device, gain=4.0), up=1, pad=(1, 1))


def _fast_conv(x: Tensor, weight: Tensor, bias: Tensor | None, up: bool) -> Tensor:
    """Convolution with one weight [O, I, k, k] for the whole batch, bias [O] added on the way out."""
    if not up:
        weight = weight.contiguous(memory_format=torch.channels_last)
        return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)
    out = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
    blur = fir_kernel(x.dtype, x.device, gain=4.0).expand(out.shape[1], 1, 4, 4)
    return F.conv2d(out, blur, bias, padding=1, groups=out.shape[1])


def _fast_styled_conv(
    x: Tensor,
    weight: Tensor,
    style: Tensor,
    bias: Tensor,
    noise: Tensor | None,
    up: bool,
    gain: float,
) -> Tensor:
    dtype = x.dtype
    # lrelu(gain * v) = gain * lrelu(v): the gain goes where it costs nothing, into weights and bias.
    bias = (bias * gain).to(dtype)
    if len(x) == 1:
        # One sample: scaling the weights is cheaper than scaling the feature maps, twice.
        own = modulate_weight(weight, style, demodulate=True)[0] * gain
        out = _fast_conv(x, own.to(dtype), bias, up)
    else:
        # Demodulation cancels any factor of the style: at half precision its largest entry is set to 1,
        # so that neither product overflows.
        style = style / style.abs().amax(dim=1, keepdim=True).clamp_min(1e-12)
        norm = style.square() @ weight.square().sum(dim=(2, 3)).t()
        scale = torch.rsqrt(norm + DEMODULATION_EPS) * gain
        out = _fast_conv(x * style.to(dtype)[:, :, None, None], weight.to(dtype), None, up)
        out = torch.addcmul(bias[:, None, None], out, scale.to(dtype)[:, :, None, None])
    # In place from here: at 1024 px a fresh feature map costs more than the arithmetic on it.
    if noise is not None:
        out = out.add_(noise.mul(gain).to(dtype))
    return F.leaky_relu_(out, LEAKY_SLOPE)


def bound(x: Tensor, clamp: float | None) -> Tensor:
    """``x`` within [-clamp, clamp], in place where no gradient needs what it was."""
    if clamp is None:
        return x
    return x.clamp(-clamp, clamp) if x.requires_grad else x.clamp_(-clamp, clamp)


def styled_conv2d(
    x: Tensor,
    weight: Tensor,
    style: Tensor,
    bias: Tensor,
    noise: Tensor | None = None,
    *,
    up: bool = False,
    gain: float = ACTIVATION_GAIN,
    clamp: float | None = None,
    reference: bool = False,
) -> Tensor:
    """Modulated, demodulated 3x3 convolution, noise, bias, leaky ReLU: one layer of the synthesis.

    The fast path holds one weight for the whole batch: styles multiply the activations before the
    convolution, demodulation multiplies its outputs. For a single sample, both go into the weight.

    Args:
        x: feature maps [N, I, H, W], channels_last is fastest.
        weight: [O, I, 3, 3] float32, scaled by the equalised learning rate.
        style: [N, I] float32.
        bias: [O] float32.
        noise: [N or 1, 1, H', W'], its strength multiplied in, or None.
        up: double height and width (transposed convolution, then the FIR filter).
        gain: factor of the result.
        clamp: bound of the result's absolute value, or None.

    Returns: [N, O, H', W'] in the dtype of ``x``.
    """
    n, i = x.shape[:2]
    assert style.shape == (n, i), f"style {tuple(style.shape)} for feature maps {tuple(x.shape)}"
    assert weight.shape[1] == i, f"weight {tuple(weight.shape)} for {i} channels"
    if not reference:
        return bound(_fast_styled_conv(x, weight, style, bias, noise, up, gain), clamp)
    out = _reference_conv(x, modulate_weight(weight, style, demodulate=True), up)
    if noise is not None:
        out = out + noise.to(out.dtype)
    out = out + bias.to(out.dtype)[:, None, None]
    return bound(F.leaky_relu(out, LEAKY_SLOPE) * gain, clamp)


def to_rgb(
    x: Tensor,
    weight: Tensor,
    style: Tensor,
    bias: Tensor,
    *,
    clamp: float | None = None,
    reference: bool = False,
) -> Tensor:
    """Modulated 1x1 convolution to colours, without demodulation.

    Args:
        x: [N, I, H, W]; weight: [3, I, 1, 1] float32, scaled; style: [N, I] float32; bias: [3];
            clamp: bound of the result's absolute value, or None.

    Returns: [N, 3, H, W] float32, whatever the dtype of ``x``: the image is summed in float32.
    """
    weights = modulate_weight(weight, style, demodulate=False)
    if reference:
        out = _reference_conv(x, weights, up=False)
    else:
        # Three outputs are little work: each sample's own weights on its own pixels, nothing copied.
        own = weights[:, :, :, 0, 0].to(x.dtype)
        # (Split, not indexed: the gradient of an index is as large as the whole of x.)
        samples = zip(x.split(1), own[..., None, None].unbind(), strict=True)
        out = torch.cat([F.conv2d(one, weight) for one, weight in samples])
    return bound(out.float() + bias[:, None, None], clamp)
