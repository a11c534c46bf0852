"""What surrounds the face: background, neck, clothes, ears, glasses."""

from __future__ import annotations

import torch
from torch import Tensor

from .face import skin_colour
from .fields import bump, constant, cover, mix, opponent, step, superellipse
from .geometry import Canvas, chin_y
from .parameters import Parameters
from .shading import light_direction


def wall_colour(p: Parameters) -> Tensor:
    """Colour of the wall behind the head, [N, 3, 1, 1]."""
    return opponent(0.22 * (1.15 * p.back_light).exp(), p.back_warm, p.back_green)


def background(p: Parameters, c: Canvas) -> Tensor:
    """A wall, lighter where the key light falls on it, [N, 3, H, W]."""
    far = bump((c.x - 0.9 * p.light_x) / 2.3, (c.y + 0.3) / 2.6)
    slope = 1 - 0.10 * c.y + 0.10 * p.light_x * c.x
    return wall_colour(p) * (far * 0.8 + 0.38).mul_(slope.clamp_(0.4, 1.6)).unsqueeze(1)


def neck(p: Parameters, c: Canvas, below: Tensor) -> Tensor:
    """The picture with the neck drawn over it, [N, 3, H, W]."""
    y = c.y - chin_y(p)
    width = 0.64 * p.head_width + 0.16 * step(y, 0.1, 0.8)
    aside = c.x - 0.12 * p.yaw.sin()
    share = cover(width - aside.abs(), c.pixel + 0.01) * step(c.y, 0.3, 0.5)
    shade = _round(p, aside / width) * (0.42 + 0.48 * step(y, 0.0, 0.75))
    return mix(below, skin_colour(p) * shade.unsqueeze(1), share)


def clothes(p: Parameters, c: Canvas, below: Tensor) -> Tensor:
    """Shoulders in one cloth, with a round or pointed neckline."""
    aside = (c.x - 0.1 * p.yaw.sin()).abs()
    top = 1.86 + 0.62 * step(aside, 0.35, 2.1) + 0.35 * (aside - 1.3).clamp_min(0).square()
    y = c.y - top
    point = step(p.neckline, 0.45, 0.75)
    depth = 0.18 + 0.22 * p.neckline
    round_, vee = 1 - superellipse(aside / 0.60, (c.y - 1.80) / depth, 2.2), 0.62 - aside
    vee = vee - (c.y - 1.80).clamp_min(0) * 0.8
    cut = torch.lerp(round_ * 0.4, vee * 0.6, point)
    share = cover(torch.minimum(y, -cut), c.pixel + 0.01)
    hem = 1 - 0.30 * bump((cut + 0.05) / 0.04)
    dye = opponent(0.16 * (1.2 * p.cloth_light).exp(), p.cloth_warm, p.cloth_green)
    crease = 1 + 0.04 * torch.sin(5 * c.x + 1.5 * c.y) + 0.03 * torch.sin(3 * c.x - 2 * c.y)
    shade = _round(p, c.x / 2.6) * crease * (0.72 + 0.28 * step(y, 0.0, 0.35)) * hem
    return mix(below, dye * shade.unsqueeze(1), share)


def ears(p: Parameters, c: Canvas, below: Tensor) -> Tensor:
    """The picture with the ears drawn over it, [N, 3, H, W]."""
    side = c.x.sign()
    hidden = (0.22 * p.yaw.sin() * side).clamp_min(0)
    x = (c.x.abs() - 0.97 * p.head_width + hidden) / 0.17
    y = (c.y - 0.17 - 0.35 * p.pitch.sin()) / 0.31
    norm = superellipse(x - 0.15 * y.clamp_max(0), y, 2.0)
    share = cover((1 - norm) * 0.17, c.pixel + 0.008)
    inner = bump((x - 0.25) / 0.38, (y + 0.05) / 0.55)
    shade = _round(p, c.x / 1.3) * (0.86 - 0.42 * inner)
    return mix(below, skin_colour(p) * constant(1.04, 0.9, 0.88, x) * shade.unsqueeze(1), share)


def glasses(p: Parameters, c: Canvas, below: Tensor) -> Tensor:
    """A frame before the eyes with a faint reflection; its arms run back to the ears."""
    beside = c.u.abs()
    half = 0.345 * p.lens_size
    norm = superellipse((beside - 0.465) / half, (c.v - 0.045) / (half * 0.80), 2.9)
    distance = (norm - 1) * half * 0.86
    rim = cover(0.034 - distance.abs(), c.pixel + 0.008)
    bridge = cover(0.028 - (c.v + 0.035 + 0.5 * c.u.square()).abs(), c.pixel + 0.008)
    bridge = bridge * cover(0.465 - half * 0.93 - beside, 0.03)
    arms = cover(0.030 - (c.v + 0.075).abs(), c.pixel + 0.008) * cover(beside - 0.465 - half, 0.02)
    frame = torch.maximum(torch.maximum(rim, bridge), arms)
    tint = opponent(0.016 + 0.16 * p.frame_light.pow(2), p.frame_warm, 0 * p.frame_warm)
    lens = cover(-distance, c.pixel + 0.008)
    glare = step((c.u + 0.9 * c.v).sin().abs(), 0.72, 0.98) * 0.07 + 0.03
    seen = mix(below, constant(0.85, 0.92, 1.0, below), lens * glare * p.glasses)
    shadow = bump((distance - 0.02) / 0.05) * 0.22 * p.glasses
    shine = 1 + 0.9 * step(-c.v, 0.08, 0.24)
    return mix(seen * (1 - shadow).unsqueeze(1), tint * shine.unsqueeze(1), frame * p.glasses)


def _round(p: Parameters, across: Tensor) -> Tensor:
    """Light on an upright cylinder at -1..1 across it."""
    x, _, z = light_direction(p)
    across = across.clamp(-1, 1)
    facing = across * x + (1 - 0.85 * across.square()).sqrt() * z
    return p.ambient + (1.15 - 0.7 * p.ambient) * (facing.clamp_min(0) * 0.85 + 0.10)
