"""Which part of the plane a picture shows: FFHQ's aligned square, or a photo with free margin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .geometry import plane_landmarks
from .parameters import Parameters

View = Literal["photo", "aligned"]


@dataclass(frozen=True)
class Frame:
    """A square in the plane: its centre [N, 2] and the vector from there to its right edge [N, 2]."""

    centre: Tensor
    right: Tensor

    @property
    def half(self) -> Tensor:
        """Half the side, [N]."""
        return self.right.norm(dim=1)

    def grid(self, size: int) -> tuple[Tensor, Tensor]:
        """Plane coordinates of the pixels' centres, [N, size, size] each."""
        t = (torch.arange(size, device=self.centre.device) + 0.5) * (2 / size) - 1
        along, down = t.view(1, 1, -1), t.view(1, -1, 1)
        cx, cy, rx, ry = (c.view(-1, 1, 1) for c in (*self.centre.t(), *self.right.t()))
        return cx + along * rx - down * ry, cy + along * ry + down * rx

    def pixels(self, points: Tensor, size: int) -> Tensor:
        """Plane points [N, K, 2] -> pixel coordinates (0, 0 is the picture's top left corner)."""
        offset = points - self.centre[:, None]
        down = torch.stack([-self.right[:, 1], self.right[:, 0]], dim=1)
        axes = torch.stack([self.right, down], dim=2) / self.half.square().view(-1, 1, 1)
        return (offset @ axes + 1) * (size / 2)


def frame(p: Parameters, view: View) -> Frame:
    """What part of the scene the picture shows."""
    if view == "photo":
        return _photo(p)
    if view == "aligned":
        return _aligned(p)
    raise ValueError(f'view must be "photo" or "aligned", not {view!r}')


def _photo(p: Parameters) -> Frame:
    half = p.photo_size.flatten()
    centre = torch.stack([p.photo_x.flatten(), 0.35 + p.photo_y.flatten()], dim=1)
    return Frame(centre, _turn(torch.stack([half, 0 * half], dim=1), p.photo_roll.flatten()))


def _aligned(p: Parameters) -> Frame:
    """FFHQ's quad from the true landmarks, disturbed as much as dlib's landmarks are."""
    points = plane_landmarks(p)
    left, right = points[:, 36:42].mean(1), points[:, 42:48].mean(1)
    mouth = (points[:, 48] + points[:, 54]) / 2
    eyes, across = (left + right) / 2, right - left
    down = mouth - eyes
    axis = across - torch.stack([-down[:, 1], down[:, 0]], dim=1)
    length = torch.maximum(across.norm(dim=1) * 2.0, down.norm(dim=1) * 1.8)
    axis = axis / axis.norm(dim=1, keepdim=True) * (length * (1 + p.scale.flatten()))[:, None]
    shift = torch.stack([p.shift_x.flatten(), p.shift_y.flatten()], dim=1)
    return Frame(eyes + 0.1 * down + shift, _turn(axis, p.roll.flatten()))


def _turn(vector: Tensor, angle: Tensor) -> Tensor:
    cos, sin = angle.cos(), angle.sin()
    x, y = vector.t()
    return torch.stack([x * cos - y * sin, x * sin + y * cos], dim=1)
