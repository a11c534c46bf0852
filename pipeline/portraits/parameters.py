"""Normals -> named, bounded parameters. Each is declared once, with its distribution beside it.

Lengths are in units of half a face width, angles in radians, colours and shares in 0..1. Switches
(glasses, beard, fringe) are soft: a generator learns a short ramp far better than a jump.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor


def _declare(transform: Callable[[Tensor], Tensor]) -> Any:
    return field(metadata={"transform": transform})


def bell(mean: float, std: float, limit: float = 2.2) -> Any:
    """A normal cut at `limit` standard deviations."""
    return _declare(lambda n: mean + std * n.clamp(-limit, limit))


def spread(low: float, high: float) -> Any:
    """Uniform between two bounds, by the normal's own distribution function."""
    return _declare(lambda n: low + (high - low) * torch.special.ndtr(n))


def switch(threshold: float, ramp: float = 0.35) -> Any:
    """0 below a threshold (in standard deviations), 1 above it, smooth over `ramp` each side."""

    def transform(n: Tensor) -> Tensor:
        t = ((n - threshold) / (2 * ramp) + 0.5).clamp(0, 1)
        return t * t * (3 - 2 * t)

    return _declare(transform)


@dataclass(frozen=True)
class Parameters:
    """One portrait a row; every field is [N, 1, 1], to broadcast over pixels."""

    # pose: yaw > 0 turns to the right of the picture, pitch > 0 looks down
    yaw: Tensor = bell(0.0, 0.20)
    pitch: Tensor = bell(0.0, 0.085)
    # framing of the photo
    photo_size: Tensor = spread(2.30, 3.05)
    photo_x: Tensor = bell(0.0, 0.18)
    photo_y: Tensor = bell(0.0, 0.12)
    photo_roll: Tensor = bell(0.0, 0.07)
    # scatter of a real alignment
    shift_x: Tensor = bell(0.0, 0.020)
    shift_y: Tensor = bell(0.0, 0.025)
    scale: Tensor = bell(0.0, 0.015)
    roll: Tensor = bell(0.0, 0.015)
    # head
    jaw: Tensor = spread(2.0, 2.75)
    head_width: Tensor = bell(1.03, 0.035)
    chin: Tensor = bell(1.60, 0.045)
    taper: Tensor = bell(0.12, 0.04)
    cheeks: Tensor = bell(1.0, 0.3)
    # skin
    melanin: Tensor = spread(0.0, 1.0)
    warmth: Tensor = bell(0.0, 0.05)
    redness: Tensor = bell(0.0, 0.04)
    gloss: Tensor = bell(1.0, 0.30)
    blush: Tensor = spread(0.0, 1.0)
    freckles: Tensor = switch(0.9, 0.6)
    lines: Tensor = spread(0.0, 1.0)
    # eyes
    eye_spacing: Tensor = bell(0.45, 0.012)
    eye_size: Tensor = bell(0.225, 0.013)
    eye_open: Tensor = bell(0.40, 0.05)
    eye_tilt: Tensor = bell(0.05, 0.05)
    iris_size: Tensor = bell(0.112, 0.006)
    iris_light: Tensor = spread(-1.0, 1.0)
    iris_warm: Tensor = bell(0.0, 0.30)
    iris_green: Tensor = bell(0.05, 0.12)
    gaze_x: Tensor = bell(0.0, 0.030)
    gaze_y: Tensor = bell(0.0, 0.014)
    lashes: Tensor = spread(0.5, 1.2)
    # brows
    brow_height: Tensor = bell(-0.315, 0.028)
    brow_thickness: Tensor = bell(0.052, 0.012)
    brow_tilt: Tensor = bell(0.025, 0.035)
    brow_arch: Tensor = bell(0.075, 0.022)
    brow_dark: Tensor = spread(0.65, 0.95)
    # nose
    nose_width: Tensor = bell(1.0, 0.12)
    nose_length: Tensor = bell(0.565, 0.022)
    nose_bridge: Tensor = bell(1.0, 0.18)
    nose_tip: Tensor = bell(1.0, 0.18)
    # mouth
    mouth_height: Tensor = bell(0.945, 0.02)
    mouth_width: Tensor = bell(0.39, 0.028)
    smile: Tensor = bell(0.50, 0.45)
    mouth_open: Tensor = bell(-0.05, 0.60)
    upper_lip: Tensor = bell(0.086, 0.016)
    lower_lip: Tensor = bell(0.118, 0.018)
    lipstick: Tensor = bell(0.25, 0.30)
    # facial hair
    beard: Tensor = switch(0.85, 0.45)
    moustache: Tensor = switch(0.9, 0.45)
    # hair
    hair_length: Tensor = spread(0.0, 1.0)
    hair_volume: Tensor = bell(0.16, 0.07)
    hairline: Tensor = bell(-0.90, 0.07)
    fringe: Tensor = switch(0.7, 0.5)
    parting: Tensor = bell(0.0, 0.75)
    curl: Tensor = spread(0.0, 1.0)
    hair_light: Tensor = spread(0.0, 1.0)
    hair_red: Tensor = bell(0.0, 0.16)
    hair_grey: Tensor = switch(1.25, 0.45)
    sheen: Tensor = spread(0.3, 1.0)
    # glasses
    glasses: Tensor = switch(0.75, 0.2)
    lens_size: Tensor = bell(1.0, 0.07)
    frame_light: Tensor = spread(0.0, 1.0)
    frame_warm: Tensor = bell(0.1, 0.25)
    # clothes
    cloth_light: Tensor = spread(-1.0, 1.0)
    cloth_warm: Tensor = bell(0.0, 0.30)
    cloth_green: Tensor = bell(0.0, 0.20)
    neckline: Tensor = spread(0.0, 1.0)
    # background
    back_light: Tensor = spread(-1.0, 1.0)
    back_warm: Tensor = bell(0.0, 0.24)
    back_green: Tensor = bell(0.0, 0.16)
    # light
    light_x: Tensor = bell(0.0, 0.45)
    light_y: Tensor = bell(-0.45, 0.16)
    ambient: Tensor = spread(0.28, 0.50)
    light_warm: Tensor = bell(0.03, 0.045)

    @classmethod
    def from_normals(cls, z: Tensor) -> Parameters:
        """From normals [N, N_PARAMETERS], each row first divided by its root mean square.

        StyleGAN's mapping normalises z the same way, so a generator distilled on z sees all of it.
        """
        if z.ndim != 2 or z.shape[1] != N_PARAMETERS:
            raise ValueError(f"z must be [N, {N_PARAMETERS}], not {list(z.shape)}")
        z = z.float()
        z = z * (z.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()
        columns = z.t().reshape(N_PARAMETERS, -1, 1, 1)
        declared = zip(fields(cls), columns, strict=True)
        return cls(**{f.name: f.metadata["transform"](column) for f, column in declared})


N_PARAMETERS = len(fields(Parameters))


def sample(n: int, seed: int) -> Tensor:
    """Normals [n, N_PARAMETERS], fixed by the seed: the first rows are the same for any n."""
    source = torch.Generator().manual_seed(seed)
    rows = [torch.randn(N_PARAMETERS, generator=source) for _ in range(n)]
    return torch.stack(rows) if rows else torch.empty(0, N_PARAMETERS)
