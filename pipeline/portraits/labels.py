"""What is in a portrait: its true landmarks, and attributes in meaningful units."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .face import skin_colour
from .framing import View, frame
from .geometry import mouth_gap, mouth_half_width, plane_landmarks
from .hair import hair_colour
from .parameters import Parameters
from .scene import wall_colour

_LUMINANCE = (0.2126, 0.7152, 0.0722)


@torch.no_grad()
def landmarks(z: Tensor, size: int = 256, view: View = "photo") -> Tensor:
    """The 68 landmarks in dlib's order, [N, 68, 2] (x, y) in pixels of `render(z, size, view)`."""
    p = Parameters.from_normals(z)
    return frame(p, view).pixels(plane_landmarks(p), size)


@torch.no_grad()
def attributes(z: Tensor) -> dict[str, Tensor]:
    """Attributes of each portrait, float32 [N] each.

    - `yaw`, `pitch` in degrees: to the right of the picture, downwards;
    - `gaze_x`, `gaze_y`: the iris' offset as a share of half an eye's width, right and down;
    - `smile`: rise of the mouth's corners over its middle, as a share of its half width;
    - `mouth_open`: gap between the lips, `eye_open`: half height over half width of an eye;
    - `glasses`, `beard`, `moustache`, `fringe`, `grey`, `freckles`, `lines` (age), `lipstick`,
      `curl`: 0 (none) to 1;
    - `hair_length`: 0 (above the ears) to 1 (shoulders); `hair_lightness`, `skin_lightness`,
      `background_lightness`: perceptual, 0 black to 100 white (CIE L*); `hair_red`: log red over blue;
    - `head_width`: width over height of the face; `light_x`: sideways slope of the key light.
    """
    p = Parameters.from_normals(z)
    hair = hair_colour(p)
    named = {
        "yaw": p.yaw * (180 / math.pi),
        "pitch": p.pitch * (180 / math.pi),
        "gaze_x": p.gaze_x / p.eye_size,
        "gaze_y": p.gaze_y / p.eye_size,
        "smile": 0.115 * p.smile / mouth_half_width(p),
        "mouth_open": mouth_gap(p),
        "eye_open": p.eye_open,
        "glasses": p.glasses,
        "beard": p.beard,
        "moustache": p.moustache,
        "fringe": p.fringe,
        "grey": p.hair_grey,
        "freckles": p.freckles,
        "lines": p.lines,
        "lipstick": p.lipstick.clamp(0, 0.8) / 0.8,
        "curl": p.curl,
        "hair_length": p.hair_length,
        "hair_lightness": _lightness(hair),
        "hair_red": (hair[:, 0] / hair[:, 2]).log(),
        "skin_lightness": _lightness(skin_colour(p)),
        "background_lightness": _lightness(wall_colour(p)),
        "head_width": 2 * p.head_width / (p.chin + 1.45),
        "light_x": p.light_x,
    }
    return {name: value.reshape(len(z)) for name, value in named.items()}


def _lightness(rgb: Tensor) -> Tensor:
    """CIE L* of linear RGB [N, 3, 1, 1]."""
    y = (rgb * rgb.new_tensor(_LUMINANCE).view(1, 3, 1, 1)).sum(dim=1).clamp(0, 1)
    return torch.where(y > 0.008856, 116 * y.clamp_min(1e-6).pow(1 / 3) - 16, 903.3 * y)
