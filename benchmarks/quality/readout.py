"""What a picture shows: attributes read from its pixels by ridge regression.

Fitted in closed form to rendered portraits and their true attributes, never to a reconstruction. A
reconstruction shows what its portrait shows as far as the same reading of it agrees with the truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.quality.portraits import Portraits

ATTRIBUTES = ("glasses", "beard", "smile", "gaze_x", "moustache", "mouth_open", "fringe", "yaw")
SIDE = 64  # pixels that are read; larger pictures are reduced
_RIDGE = 100.0  # beside squared pixel values in [-1, 1], summed over the renders


@dataclass(frozen=True)
class Reading:
    """One attribute. Correlations are with the truth, over the portraits."""

    attribute: str
    of_portraits: float  # correlation of what is read from the portraits: the best that can be had
    of_reconstructions: float  # of what is read from their reconstructions
    slope: float  # of the second reading over the first: 1 = as strong as in the portrait
    spread_of_samples: float  # standard deviation in images of random z, in parts of the portraits'


class ReadOut:
    """Pixels to attributes, linearly."""

    def __init__(self, renders: Portraits, attributes: Sequence[str] = ATTRIBUTES) -> None:
        self.attributes = tuple(attributes)
        pixels = _pixels(renders.images)
        truth = torch.stack([renders.truth(name).double() for name in attributes], dim=1)
        self.mean, self.middle, self.scale = pixels.mean(0), truth.mean(0), truth.std(0)
        centred = pixels - self.mean
        # As many unknowns as renders, not as pixels: the dual form.
        gram = centred @ centred.T + _RIDGE * torch.eye(len(centred), dtype=centred.dtype)
        answers = torch.linalg.solve(gram, (truth - self.middle) / self.scale)
        self.weights = centred.T @ answers

    def __call__(self, images: Tensor) -> Tensor:
        """[N, 3, h, w] -> attributes in their own units, [N, n_attributes] float64."""
        return (_pixels(images) - self.mean) @ self.weights * self.scale + self.middle


def measure(
    read: ReadOut, portraits: Portraits, reconstructions: Tensor, samples: Tensor
) -> list[Reading]:
    """Every attribute. What does not vary in the portraits correlates with nothing: 0."""
    first, second, third = read(portraits.images), read(reconstructions), read(samples)
    found = []
    for i, name in enumerate(read.attributes):
        truth, a, b = portraits.truth(name).double(), first[:, i], second[:, i]
        found.append(
            Reading(
                name,
                correlation(a, truth),
                correlation(b, truth),
                float(((a - a.mean()) * (b - b.mean())).sum() / (a - a.mean()).square().sum()),
                float(third[:, i].std() / a.std()),
            )
        )
    return found


def correlation(a: Tensor, b: Tensor) -> float:
    """Pearson's, of two [N]; 0 where one of them is constant."""
    a, b = a - a.mean(), b - b.mean()
    size = float(a.norm() * b.norm())
    return float((a * b).sum()) / size if size > 0 else 0.0


def _pixels(images: Tensor) -> Tensor:
    if images.shape[-1] > SIDE:
        images = F.interpolate(images, (SIDE, SIDE), mode="bilinear", antialias=True)
    return images.flatten(1).double()
