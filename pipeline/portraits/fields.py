"""Small fields that every layer is made of: bumps, soft edges, steps and mixes.

A field is a tensor [N, H, W] over the pixels, a parameter is [N, 1, 1], a colour [N, 3, 1, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor


def bump(x: Tensor, y: Tensor | None = None) -> Tensor:
    """Gaussian of already scaled offsets: 1 at the origin, 0.61 at distance 1."""
    square = x.square() if y is None else x.square().addcmul_(y, y)
    # below -30 nothing is left but denormals, which are many times slower
    return square.mul_(-0.5).clamp_min_(-30).exp_()


def cover(distance: Tensor, softness: Tensor | float) -> Tensor:
    """How much of a pixel is inside: 0.5 on the edge, rising over `softness` of distance."""
    return (distance / softness).add_(0.5).clamp_(0, 1)


def step(x: Tensor, low: float | Tensor, high: float | Tensor) -> Tensor:
    """Smooth step from 0 at `low` to 1 at `high`."""
    t = ((x - low) / (high - low)).clamp_(0, 1)
    return t * t * (3 - 2 * t)


def mix(below: Tensor, above: Tensor, share: Tensor) -> Tensor:
    """Paint a colour [N, 3, ...] over another by a field [N, H, W]."""
    return torch.lerp(below, above, share.unsqueeze(1))


def superellipse(x: Tensor, y: Tensor, power: Tensor | float) -> Tensor:
    """Norm of already scaled offsets: below 1 inside, 1 on the outline."""
    total = x.abs().clamp_min(1e-4).pow(power) + y.abs().clamp_min(1e-4).pow(power)
    return total.pow(1 / power)


def colour(*channels: Tensor) -> Tensor:
    """Three parameters [N, 1, 1] as one colour [N, 3, 1, 1]."""
    return torch.stack(channels, dim=1)


def opponent(lightness: Tensor, warm: Tensor, green: Tensor) -> Tensor:
    """Linear RGB [N, 3, 1, 1] from a lightness and two signed opponent axes (smooth, no hue wheel)."""
    logs = colour(warm - 0.4 * green, green - 0.1 * warm, -warm - 0.2 * green)
    return lightness.unsqueeze(1) * logs.exp()


def constant(red: float, green: float, blue: float, like: Tensor) -> Tensor:
    """A fixed colour [1, 3, 1, 1] on the device of `like`."""
    return like.new_tensor([red, green, blue]).view(1, 3, 1, 1)
