"""A distance between two sets of images that needs no network: sliced Wasserstein over patches.

Karras et al. 2018 (arXiv 1710.10196, section 5): patches of 7x7 pixels come from each level of a Laplacian
pyramid; for each of many random directions both sets' projections are sorted, and the distance is the mean
difference between those of equal rank. Two things differ. Both sets' colours are normalised by the mean and
deviation of the real ones (the paper's each by its own, which hides a wrong tint), and levels are halved by
antialiased bilinear interpolation. Small samples of one distribution differ too, the more the smaller they
are: compare distances of equal n only.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SMALLEST = 16  # pixels; the last level, what is left of the images
PATCH = 7  # pixels
PATCHES_PER_IMAGE, MOST_PATCHES = 128, 1 << 14
DIRECTIONS = 128
SEED = 0
PER_THOUSAND = 1e3  # the paper's scale


def pyramid(images: Tensor) -> list[Tensor]:
    """Laplacian pyramid of [N, 3, s, s], s a power of two: what each halving loses, then the rest."""
    levels = []
    while images.shape[-1] > SMALLEST:
        half = F.interpolate(images, scale_factor=0.5, mode="bilinear", antialias=True)
        levels.append(images - F.interpolate(half, scale_factor=2, mode="bilinear"))
        images = half
    return [*levels, images]


def _patches(level: Tensor, draw: torch.Generator) -> Tensor:
    """Random patches [M, 3, 7, 7], equally many of each image; the same places for the same seed."""
    n, size = len(level), level.shape[-1] - PATCH + 1
    each = max(1, min(PATCHES_PER_IMAGE, MOST_PATCHES // n))
    y, x = torch.randint(size, (2, n * each), generator=draw).to(level.device)
    image = torch.arange(n, device=level.device).repeat_interleave(each)
    return level.unfold(2, PATCH, 1).unfold(3, PATCH, 1)[image, :, y, x]


def _distance(real: Tensor, fake: Tensor, draw: torch.Generator) -> float:
    """Sliced Wasserstein distance of two sets of patches [M, 3, 7, 7]."""
    deviation, mean = torch.std_mean(real, dim=(0, 2, 3), keepdim=True)
    directions = torch.randn(DIRECTIONS, real[0].numel(), generator=draw).to(real.device)
    directions = directions / directions.norm(dim=1, keepdim=True)
    first, second = (
        (directions @ ((patches - mean) / (deviation + 1e-8)).flatten(1).t()).sort(dim=1).values
        for patches in (real, fake)
    )
    return (first - second).abs().mean().item() * PER_THOUSAND


@torch.no_grad()
def sliced_wasserstein(real: Tensor, fake: Tensor) -> list[float]:
    """Distance at each level of the pyramid, from the finest details to the rest at 16 px.

    Args:
        real, fake: equally many images of one size, [N, 3, s, s] in [-1, 1], s a power of two from 8.

    Returns: one number a level, times 1000 as in the paper; 0 for equal sets, the same numbers for the
        same images.

    Raises:
        ValueError: other shapes.
    """
    if real.shape != fake.shape or real.ndim != 4 or real.shape[2] != real.shape[3]:
        raise ValueError(
            f"two equal sets of square images are compared, not {list(real.shape)} and {list(fake.shape)}"
        )
    distances = []
    for level_real, level_fake in zip(pyramid(real.float()), pyramid(fake.float()), strict=True):
        patches_real, patches_fake = (
            _patches(level, torch.Generator().manual_seed(SEED))
            for level in (level_real, level_fake)
        )
        draw = torch.Generator().manual_seed(SEED)
        distances.append(_distance(patches_real, patches_fake, draw))
    return distances
