"""StyleGAN2's filters and what its layers share; the layers themselves: `generators.styled_conv`.

Each is a readable reference beside a fast path behind one function; the two give the same numbers in float32
(``tests/generators/test_ops.py``). Nothing here compiles at import.
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


def blur2d(x: Tensor, pad: int, gain: float = 1.0) -> Tensor:
    """[N, C, H, W] under the FIR filter with ``pad`` zeros on each side: 3 pixels less than padded."""
    if x.is_cuda:
        return shifted_blur2d(x, pad, gain)
    c = x.shape[1]
    kernel = fir_kernel(x.dtype, x.device, gain).expand(c, 1, 4, 4)
    return F.conv2d(x, kernel, padding=pad, groups=c)


def shifted_blur2d(x: Tensor, pad: int, gain: float = 1.0) -> Tensor:
    """:func:`blur2d` as sums of shifted slices.

    A GPU's depthwise convolution takes 40 times as long as a copy; a compiler makes one pass of these sums
    and of what follows them.
    """
    x = F.pad(x, (pad, pad, pad, pad))
    rows = x[:, :, :-3] + x[:, :, 3:] + 3 * (x[:, :, 1:-2] + x[:, :, 2:-1])
    filtered = rows[..., :-3] + rows[..., 3:] + 3 * (rows[..., 1:-2] + rows[..., 2:-1])
    return filtered * (gain / 64)


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


def bound(x: Tensor, clamp: float | None) -> Tensor:
    """``x`` within [-clamp, clamp], in place where no gradient needs what it was."""
    if clamp is None:
        return x
    return x.clamp(-clamp, clamp) if x.requires_grad else x.clamp_(-clamp, clamp)


def normalised(x: Tensor) -> Tensor:
    """Vectors [N, n] divided by their root mean square."""
    return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-8)
