"""Where a StyleGAN3 draws its content: turned and moved, and beyond the edges of its picture.

A StyleGAN3 draws from a continuous map, of which its picture is a window. A *motion* M [3, 3] moves the
picture, in widths of it from its middle, x to the right and y down; the synthesis takes the inverse, the
*transform*, from where a pixel is to where its content was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_SIDES = ("left", "top", "right", "bottom")
# The picture itself, then what is beyond each side, then the corners: columns and rows by side (-1, 0, 1).
_WINDOWS = ((0, 0), (-1, 0), (0, -1), (1, 0), (0, 1), (-1, -1), (1, -1), (1, 1), (-1, 1))


@dataclass(frozen=True)
class Margins:
    """Pixels to be drawn beyond each side of a picture."""

    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0

    def __post_init__(self) -> None:
        for side in _SIDES:
            if getattr(self, side) < 0:
                raise ValueError(f"a margin is 0 or more pixels, not {getattr(self, side)}")


def motion(x: float, y: float, degrees: float) -> np.ndarray:
    """The motion [3, 3] float64 that turns counter-clockwise about the middle, then moves to the right and
    down."""
    angle = np.deg2rad(degrees)
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, sin, x], [-sin, cos, y], [0, 0, 1]])


def shifted(transform: np.ndarray, margins: Margins, resolution: int) -> np.ndarray:
    """Transforms [9, 3, 3] float64 of the picture and of what is beyond it.

    In the order middle, left, top, right, bottom, top left, top right, bottom right, bottom left; each moves
    the picture by the margins, so that what was beyond it comes into sight.

    Args:
        transform: of the picture, [3, 3].
    """
    at_x = {-1: margins.left, 0: 0, 1: -margins.right}
    at_y = {-1: margins.top, 0: 0, 1: -margins.bottom}
    back = [motion(at_x[x] / resolution, at_y[y] / resolution, 0) for x, y in _WINDOWS]
    return transform @ np.linalg.inv(back)


def expanded(
    synthesis: Callable[..., Tensor],
    w_plus: Tensor,
    margins: Margins,
    transforms: np.ndarray | None = None,
) -> Tensor:
    """Pictures with margins: latents [N, 16, w_dim] -> [N, 3, top + H + bottom, left + W + right].

    Each is put together from one drawing for the picture and one for each side and corner that has a margin.

    Args:
        synthesis: a StyleGAN3's, or what draws as it does.
        transforms: of each picture, [N, 3, 3]; None: the picture as it is.

    Raises:
        ValueError: a margin larger than the picture.
    """
    given = np.broadcast_to(np.eye(3), (len(w_plus), 3, 3)) if transforms is None else transforms
    return torch.cat(
        [
            _one(synthesis, w[None], margins, transform)
            for w, transform in zip(w_plus, given, strict=True)
        ]
    )


def _one(
    synthesis: Callable[..., Tensor], w_plus: Tensor, margins: Margins, transform: np.ndarray
) -> Tensor:
    middle = synthesis(w_plus, transform=_tensor(transform, w_plus))
    resolution = middle.shape[-1]
    if max(getattr(margins, side) for side in _SIDES) > resolution:
        raise ValueError(f"a margin is at most the picture's own {resolution} pixels")
    columns, rows = (
        _spans(margins.left, resolution, margins.right),
        _spans(margins.top, resolution, margins.bottom),
    )
    left, top = margins.left, margins.top
    size = top + resolution + margins.bottom, left + resolution + margins.right
    whole = middle.new_empty(1, 3, *size)
    every = shifted(transform, margins, resolution)
    for (x, y), moved in zip(_WINDOWS, every, strict=True):
        (goal_x, from_x), (goal_y, from_y) = columns[x], rows[y]
        if goal_x.start == goal_x.stop or goal_y.start == goal_y.stop:
            continue
        is_middle = (x, y) == (0, 0)
        drawn = middle if is_middle else synthesis(w_plus, transform=_tensor(moved, w_plus))
        whole[:, :, goal_y, goal_x] = drawn[:, :, from_y, from_x]
    return whole


def _spans(before: int, size: int, behind: int) -> dict[int, tuple[slice, slice]]:
    """By side: where a part goes along one axis, and where it is in its own drawing."""
    return {
        -1: (slice(0, before), slice(0, before)),
        0: (slice(before, before + size), slice(0, size)),
        1: (slice(before + size, before + size + behind), slice(size - behind, size)),
    }


def _tensor(transform: np.ndarray, like: Tensor) -> Tensor:
    return torch.from_numpy(np.array(transform, np.float32)).to(like.device)
