"""Distances between images: one number for each image, never a mean over the batch.

Every function takes two batches [N, 3, h, w] of the same shape, nominally in [-1, 1], and returns
[N] float32, computed in float32 whatever the inputs are. All are differentiable, and serve as
metrics and as training objectives. Values that are not finite stay so.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

DATA_RANGE = 2.0  # white minus black
MAX_PSNR = 100.0  # dB, of equal images; a mean over images stays finite

# Wang, Simoncelli and Bovik 2003, "Multiscale structural similarity for image quality assessment":
# exponents of the five scales (section 3.2), finest first, and the constants of SSIM.
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_WINDOW, _SIGMA = 11, 1.5
_C1 = (0.01 * DATA_RANGE) ** 2
_C2 = (0.03 * DATA_RANGE) ** 2


def mse(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared difference on the range [-1, 1]: four times that on [0, 1]. [N]."""
    a, b = pair(a, b)
    return (a - b).square().mean(dim=(1, 2, 3))


def best_steps(mse: Tensor) -> Tensor:
    """The step (from 1) of least error of each image, the first of equal ones: [n_steps, N] -> [N] int64."""
    return (mse <= mse.amin(dim=0)).int().argmax(dim=0) + 1


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, from `mse` and a peak of 2; at most MAX_PSNR. [N]."""
    least = DATA_RANGE**2 / 10 ** (MAX_PSNR / 10)
    return 10 * torch.log10(DATA_RANGE**2 / mse(a, b).clamp_min(least))


def ms_ssim(a: Tensor, b: Tensor) -> Tensor:
    """Multi-scale structural similarity, 1 for equal images (Wang et al. 2003, equation 7). [N].

    Computed for each colour and averaged. Windows lie wholly inside the picture, so that five
    scales need 176 pixels; a smaller picture uses the finest scales that it has room for (88: four,
    44: three, ...), their exponents divided by their sum. Negative contrast terms count as 0.

    Raises:
        ValueError: shapes differ, or a side is shorter than the window of 11 pixels.
    """
    a, b = pair(a, b)
    weights = _scale_weights(min(a.shape[-2:]))
    result = torch.ones(a.shape[:2], device=a.device)
    for scale, weight in enumerate(weights):
        luminance, contrast = _ssim_terms(a, b)
        last = scale == len(weights) - 1
        term = (luminance * contrast if last else contrast).mean(dim=(2, 3))
        # The floor keeps the gradient of the power finite where the term itself counts as 0.
        power = term.clamp_min(1e-8) ** weight
        result = result * torch.where(term <= 0, torch.zeros_like(power), power)
        if not last:
            a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    return result.mean(dim=1)


def multi_scale_l1(a: Tensor, b: Tensor, n_scales: int = 4) -> Tensor:
    """Mean absolute difference at full, 1/2, 1/4 ... size, and of the finest gradients; summed. [N].

    A cheap objective: coarse scales find shapes from afar, gradients keep edges sharp.
    """
    a, b = pair(a, b)
    total = sum(
        (
            (x - y).abs().mean(dim=(1, 2, 3))
            for x, y in zip(gradients(a), gradients(b), strict=True)
        ),
        torch.zeros(len(a), device=a.device),
    )
    for scale in range(n_scales):
        if scale:
            a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
        total = total + (a - b).abs().mean(dim=(1, 2, 3))
    return total


def detail_l1(image: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference, weighted by how much there is to see in the target at each pixel. [N].

    Weights are the target's absolute gradients, averaged over 3x3 pixels and divided by their mean over
    the picture: the frame of glasses or the corner of a mouth, a few pixels, counts like a cheek.
    """
    image, target = pair(image, target)
    across, down = gradients(target)
    busy = F.pad(across.abs(), (0, 1)) + F.pad(down.abs(), (0, 0, 0, 1))
    weight = F.avg_pool2d(busy.mean(dim=1, keepdim=True), 3, 1, 1, count_include_pad=False)
    weight = weight / weight.mean(dim=(2, 3), keepdim=True).clamp_min(1e-6)
    return ((image - target).abs() * weight).mean(dim=(1, 2, 3))


def gradients(x: Tensor) -> tuple[Tensor, Tensor]:
    """Differences to the right and downwards, [..., h, w - 1] and [..., h - 1, w]."""
    return x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]


def sharpness(x: Tensor) -> Tensor:
    """Mean absolute gradient: the sum over both directions. [N]."""
    across, down = gradients(x.float())
    return across.abs().mean(dim=(1, 2, 3)) + down.abs().mean(dim=(1, 2, 3))


def _scale_weights(side: int) -> list[float]:
    """Exponents of the scales that a picture has room for, by its shorter side in pixels."""
    if side < _WINDOW:
        raise ValueError(
            f"MS-SSIM needs images with sides of at least {_WINDOW} pixels, not {side}"
        )
    fitting = [w for i, w in enumerate(_SCALE_WEIGHTS) if side >> i >= _WINDOW]
    return [w / sum(fitting) for w in fitting]


def _ssim_terms(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Maps of luminance (equation 1 of the paper) and of contrast times structure (2 and 3)."""
    moments = torch.cat([a, b, a * a, b * b, a * b])
    mean_a, mean_b, aa, bb, ab = _blur(moments).chunk(5)
    var_a, var_b, cov = aa - mean_a.square(), bb - mean_b.square(), ab - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + _C1) / (mean_a.square() + mean_b.square() + _C1)
    contrast = (2 * cov + _C2) / (var_a + var_b + _C2)
    return luminance, contrast


def _blur(x: Tensor) -> Tensor:
    """Gaussian window, without padding: [..., h, w] -> [..., h - 10, w - 10]."""
    # Products with banded matrices: on a CPU four times as fast as convolutions of single planes.
    rows, columns = (_window_matrix(side, x.device) for side in x.shape[-2:])
    with torch.autocast(x.device.type, enabled=False):
        return rows @ x @ columns.T


def _window_matrix(side: int, device: torch.device) -> Tensor:
    """The window at each of its positions along a side, [side - 10, side]."""
    offsets = (
        torch.arange(side, device=device) - torch.arange(side - _WINDOW + 1, device=device)[:, None]
    )
    offsets = (offsets - _WINDOW // 2).float()
    taps = torch.exp(-offsets.square() / (2 * _SIGMA**2)) * (offsets.abs() <= _WINDOW // 2)
    return taps / taps.sum(dim=1, keepdim=True)


def pair(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both batches in float32; ValueError unless they have one shape [N, 3, h, w]."""
    if a.shape != b.shape or a.ndim != 4:
        raise ValueError(
            f"a distance takes two batches [N, 3, h, w] of one shape, not {list(a.shape)} and "
            f"{list(b.shape)}"
        )
    return a.float(), b.float()
