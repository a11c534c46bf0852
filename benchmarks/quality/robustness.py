"""Disturbed portraits: how near the reconstruction comes to what was hidden, and to what was seen."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from encoders import ReStyle
from encoders.metrics.distances import mse

# Side of 64 px: for another size, blur is scaled with it.
STRENGTHS = {
    "blur": (0.5, 1.0, 2.0, 3.0),
    "occlusion": (0.125, 0.25, 0.375, 0.5),
    "rotation": (5.0, 10.0, 20.0, 30.0),
}
UNITS = {
    "blur": "sigma, in 64ths of the side",
    "occlusion": "side of the patch",
    "rotation": "degrees",
}
STEPS = 5
SHOWN = 2  # which of the strengths is shown in pictures


@dataclass(frozen=True)
class Disturbed:
    """One disturbance of all portraits, and the loop on it. Strength 0 is the portraits as they are."""

    kind: str
    strength: float
    seen: float  # MSE between what the encoder saw and the clean portrait
    to_clean: list[float]  # MSE of each step to the clean portrait
    to_seen: list[float]  # and to what was seen


def measure(
    model: ReStyle, images: Tensor, batch: int, seed: int
) -> tuple[list[Disturbed], dict[str, tuple[Tensor, Tensor]]]:
    """All kinds and strengths, on the model's device.

    Returns: the numbers, and for each kind, at its strength `SHOWN`, what was seen and what the last
        step made of it, [N, 3, h, h] on the CPU.
    """
    found, examples = [], {}
    for kind, strengths in STRENGTHS.items():
        for strength in (0.0, *strengths):
            seen = disturb(images, kind, strength, seed)
            drawn = torch.cat(
                [model.invert(chunk, STEPS).thumbnails for chunk in seen.split(batch)], dim=1
            )
            found.append(
                Disturbed(
                    kind,
                    strength,
                    float(mse(seen, images).mean()),
                    [float(mse(step, images).mean()) for step in drawn],
                    [float(mse(step, seen).mean()) for step in drawn],
                )
            )
            if strength == strengths[SHOWN]:
                examples[kind] = seen.cpu(), drawn[-1].cpu()
    return found, examples


def disturb(images: Tensor, kind: str, strength: float, seed: int) -> Tensor:
    """[N, 3, h, h] -> the same shape. ValueError for another kind."""
    if not strength:
        return images
    if kind == "blur":
        return _blurred(images, strength * images.shape[-1] / 64)
    if kind == "occlusion":
        return _occluded(images, strength, seed)
    if kind == "rotation":
        return _rotated(images, math.radians(strength))
    raise ValueError(f"kind must be one of {', '.join(STRENGTHS)}, not {kind!r}")


def _blurred(images: Tensor, sigma: float) -> Tensor:
    """By a Gaussian; the picture is mirrored beyond its edges."""
    reach = math.ceil(3 * sigma)
    offsets = torch.arange(-reach, reach + 1, device=images.device)
    taps = torch.exp(-offsets.square() / (2 * sigma**2))
    taps = (taps / taps.sum()).expand(images.shape[1], 1, 1, -1)
    padded = F.pad(images, (reach,) * 4, mode="reflect")
    once = F.conv2d(padded, taps, groups=images.shape[1])
    return F.conv2d(once, taps.transpose(2, 3), groups=images.shape[1])


def _occluded(images: Tensor, side: float, seed: int) -> Tensor:
    """A grey square somewhere in each; a larger one lies around a smaller one's place."""
    source = torch.Generator().manual_seed(seed)
    centre = 0.2 + 0.6 * torch.rand(len(images), 2, 1, 1, generator=source).to(images.device)
    size = images.shape[-1]
    axis = (torch.arange(size, device=images.device) + 0.5) / size
    inside = ((axis[None, :] - centre[:, 0]).abs() < side / 2) & (
        (axis[:, None] - centre[:, 1]).abs() < side / 2
    )
    return images.masked_fill(inside[:, None], 0.0)


def _rotated(images: Tensor, angle: float) -> Tensor:
    """Around the middle; the picture is mirrored beyond its edges."""
    cos, sin = math.cos(angle), math.sin(angle)
    turn = images.new_tensor([[cos, -sin, 0.0], [sin, cos, 0.0]]).expand(len(images), 2, 3)
    grid = F.affine_grid(turn, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
