"""Images as no training set holds them, so that an encoder stays near likenesses on a strange photo."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_GAIN, _SHIFT = (0.75, 1.25), 0.15  # of each colour
_TEXTURE = 0.15  # most of the standard deviation of each texture
_CELLS = (4, 16)  # textures of so many cells a side, and one of single pixels
_PATCH = 0.15  # most of a patch's half side, as a share of the image's
_TURN, _STRETCH, _MOVE = (
    0.2,
    0.15,
    0.12,
)  # most of an angle, of each axis' scale, of half the image's side


def disturb(images: Tensor, draw: torch.Generator) -> Tensor:
    """The images with other contrast and colour, textures and one patch of one colour each.

    Args:
        images: [N, 3, h, w] in [-1, 1].
        draw: of all that is random, on the images' device or on the CPU.
    """
    n, _, height, width = images.shape
    device = draw.device

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=draw, device=device)

    gain = _GAIN[0] + (_GAIN[1] - _GAIN[0]) * uniform(n, 3, 1, 1)
    shift = _SHIFT * (2 * uniform(n, 3, 1, 1) - 1)
    texture = torch.zeros(n, 3, height, width, device=device)
    for rows, columns in (*((c, c) for c in _CELLS), (height, width)):
        noise = torch.randn(n, 3, rows, columns, generator=draw, device=device)
        grown = F.interpolate(noise, (height, width), mode="bilinear", align_corners=False)
        texture = texture + _TEXTURE * uniform(n, 1, 1, 1) * grown
    patch = _patch(height, uniform(n, 1), uniform(n, 1))[:, None, :, None]
    patch = patch * _patch(width, uniform(n, 1), uniform(n, 1))[:, None, None, :]
    colour = 2 * uniform(n, 3, 1, 1) - 1
    gain, shift, texture, patch, colour = (
        t.to(images.device, images.dtype) for t in (gain, shift, texture, patch, colour)
    )
    picture = images * gain + shift + texture
    return (picture * (1 - patch) + colour * patch).clamp(-1, 1)


def estrange(images: Tensor, draw: torch.Generator) -> Tensor:
    """The images turned, stretched and moved, then disturbed: what no generator of such images can draw.

    Args:
        images, draw: as in `disturb`.
    """
    n, device = len(images), draw.device
    turn, across, down, right, up = (
        (2 * torch.rand(n, generator=draw, device=device) - 1) * most
        for most in (_TURN, _STRETCH, _STRETCH, _MOVE, _MOVE)
    )
    cos, sin = turn.cos(), turn.sin()
    rows = [
        torch.stack([cos * (1 + across), -sin * (1 + down), right], dim=1),
        torch.stack([sin * (1 + across), cos * (1 + down), up], dim=1),
    ]
    matrix = torch.stack(rows, dim=1).to(images.device, images.dtype)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return disturb(F.grid_sample(images, grid, padding_mode="border", align_corners=False), draw)


def _patch(size: int, middle: Tensor, half: Tensor) -> Tensor:
    """[N, size]: 1 where a patch reaches along one axis."""
    axis = torch.linspace(0, 1, size, device=middle.device)
    return ((axis - middle).abs() < _PATCH * half).float()
