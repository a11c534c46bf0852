"""Adaptive augmentation of what the discriminator sees, for small sets (ADA, arXiv 2006.06676).

A discriminator that sees few images learns them by heart, and then teaches nothing. It is shown real and
drawn images moved, turned, scaled and recoloured at random instead, each in its own way, and gradients flow
through that to the generator. Each change is made with probability p, which rises while the discriminator is
surer of the training images than it should be, and falls otherwise. As p stays below 1, the generator does
not learn to draw changed images (section 2.2). The changes are the paper's blits, geometry and colours
(appendix B) with its strengths, but resampled by bilinear interpolation.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

MOST = 0.8  # of p; changes leak into what is drawn above it (section 2.2)
INTERVAL = 4  # batches from one look at the discriminator to the next
MOVED = 0.125  # of the side: most by whole pixels, and the deviation by parts of one
LOG_SCALE, LOG_STRETCH = 0.2, 0.2  # deviations of the logarithm to base 2
BRIGHTNESS, LOG_CONTRAST, LOG_SATURATION = 0.2, 0.5, 1.0
GREY = (1 / math.sqrt(3),) * 3  # the axis of colours without any


class Augmentation:
    """The changes, and their probability, which follows the discriminator."""

    def __init__(self, target: float, n_images: int) -> None:
        """
        Args:
            target: mean sign of the scores of real images: 0 for a guess, 1 for a set known by heart.
            n_images: seen while p goes from 0 to 1, at most as fast as that.
        """
        self._target, self._n_images = target, n_images
        self.p = 0.0
        self._signs: list[float] = []  # since the last look

    def __call__(self, images: Tensor, draw: torch.Generator) -> Tensor:
        """Changed images, [N, 3, s, s]; differentiable once, for warping has no second derivative."""
        return augmented(images, self.p, draw) if self.p else images

    def follow(self, sign: float, n_images: int) -> None:
        """Take note of another batch: the mean sign of its real images' scores, of so many images."""
        self._signs.append(sign)
        if len(self._signs) < INTERVAL:
            return
        excess = sum(self._signs) / INTERVAL - self._target
        move = math.copysign(INTERVAL * n_images / self._n_images, excess) if excess else 0.0
        self.p = min(max(self.p + move, 0.0), MOST)
        self._signs = []

    def state_dict(self) -> dict[str, Any]:
        """The probability, and what was seen since it last changed."""
        return {"p": self.p, "signs": list(self._signs)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where :meth:`state_dict` was taken."""
        self.p, self._signs = state["p"], list(state["signs"])


def augmented(images: Tensor, p: float, draw: torch.Generator) -> Tensor:
    """Each image [N, 3, s, s] changed in its own way, each change with probability ``p``.

    Args:
        draw: of the changes; on the device of the images, or on the CPU.
    """
    n, size, device = len(images), images.shape[-1], images.device
    uniform = torch.rand(n, 2, 14, generator=draw, device=draw.device).to(device)
    normal = torch.randn(n, 7, generator=draw, device=draw.device).to(device)
    places = _places(uniform[..., :9], normal[:, :4], p, size)
    return warped(recoloured(images, _colours(uniform[..., 9:], normal[:, 4:], p)), places)


def warped(images: Tensor, places: Tensor) -> Tensor:
    """Images whose pixel at x comes from the place ``places @ x``, mirrored at the borders.

    Args:
        places: [N, 2, 3], in units of half a side from the middle.
    """
    grid = F.affine_grid(places, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, "bilinear", "reflection", align_corners=False)


def recoloured(images: Tensor, colours: Tensor) -> Tensor:
    """Colours c of each pixel become ``colours @ (c, 1)``; colours [N, 3, 4]."""
    n, _, h, w = images.shape
    moved = torch.baddbmm(colours[:, :, 3:], colours[:, :, :3], images.reshape(n, 3, h * w))
    return moved.reshape(n, 3, h, w)


def _places(uniform: Tensor, normal: Tensor, p: float, size: int) -> Tensor:
    """Random motions, [N, 2, 3]; uniform [N, 2, 9] in [0, 1): whether, and how much; normal [N, 4]."""
    whether, amount = uniform.unbind(1)
    # Turns before and after stretching are one change together (appendix B).
    turn = 1 - math.sqrt(1 - p)
    limits = [p, p, p, p, turn, turn, p, p, p]
    on = (whether < torch.tensor(limits, device=uniform.device)).to(normal.dtype)
    flip = 1 - 2 * on[:, 0] * (amount[:, 0] < 0.5)
    quarter = on[:, 1] * (amount[:, 1] * 4).floor() * (math.pi / 2)
    pixels = ((amount[:, 2:4] * 2 - 1) * MOVED * size).round() * on[:, 2:3]
    first, second = ((amount[:, i] * 2 - 1) * math.pi * on[:, i] for i in (4, 5))
    scale = torch.exp2(LOG_SCALE * normal[:, 0] * on[:, 6])
    stretch = torch.exp2(LOG_STRETCH * normal[:, 1] * on[:, 7])
    linear = _diagonal(flip, torch.ones_like(flip)) @ _rotation(quarter + first)
    linear = linear @ _diagonal(scale * stretch, scale / stretch) @ _rotation(second)
    moved = 2 * (pixels / size + MOVED * normal[:, 2:4] * on[:, 8:9])  # a side is 2 units long
    return torch.cat([linear, moved[:, :, None]], dim=2)


def _colours(uniform: Tensor, normal: Tensor, p: float) -> Tensor:
    """Random changes of colours, [N, 3, 4]; uniform [N, 2, 5]: whether, and how much; normal [N, 3]."""
    whether, amount = uniform.unbind(1)
    on = (whether < p).to(normal.dtype)
    brightness = BRIGHTNESS * normal[:, 0] * on[:, 0]
    contrast = torch.exp2(LOG_CONTRAST * normal[:, 1] * on[:, 1])
    inverted = 1 - 2 * on[:, 2] * (amount[:, 2] < 0.5)
    angle = (amount[:, 3] * 2 - 1) * math.pi * on[:, 3]
    saturation = torch.exp2(LOG_SATURATION * normal[:, 2] * on[:, 4])
    axis = torch.tensor(GREY, device=normal.device)
    along = axis[:, None] * axis  # projection onto grey
    x, y, z = GREY
    turned = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], device=normal.device)
    across = torch.eye(3, device=normal.device) - along
    # Rodrigues: a turn around grey, with the part across it scaled.
    sine, cosine = (f(angle)[:, None, None] for f in (torch.sin, torch.cos))
    linear = inverted[:, None, None] * along
    linear = linear + saturation[:, None, None] * (cosine * across + sine * turned)
    linear = linear * contrast[:, None, None]
    offset = brightness[:, None, None].expand(-1, 3, 1)
    return torch.cat([linear, offset], dim=2)


def _rotation(angle: Tensor) -> Tensor:
    sine, cosine = angle.sin(), angle.cos()
    return torch.stack([cosine, -sine, sine, cosine], dim=1).unflatten(1, (2, 2))


def _diagonal(x: Tensor, y: Tensor) -> Tensor:
    return torch.diag_embed(torch.stack([x, y], dim=1))
