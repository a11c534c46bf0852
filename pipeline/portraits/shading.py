"""Relief and light: a height field of bumps on the head, its normals, and how light falls on them."""

from __future__ import annotations

import torch
from torch import Tensor

from .fields import bump, colour, constant, step
from .geometry import Canvas, mouth_half_width, mouth_line, nose_drop, nose_line
from .parameters import Parameters


def relief(p: Parameters, c: Canvas) -> Tensor:
    """Height of the face's features above the solid head, [N, H, W]."""
    beside, v = c.u.abs(), c.v
    nose = c.u - nose_line(p, v)
    aside = nose.abs()
    tip_v = v - nose_drop(p) - (p.nose_length - 0.135)
    width = p.nose_width
    ridge = step(v, -0.30, 0.35) * (1 - step(tip_v, 0.0, 0.14))
    height = 0.12 * p.nose_bridge * ridge * bump(nose / (0.115 * width))
    height += 0.125 * p.nose_tip * bump(nose / (0.120 * width), tip_v / 0.105)
    height += 0.075 * bump((aside - 0.155 * width) / 0.06, (tip_v - 0.055) / 0.075)
    height -= 0.10 * bump((beside - 0.40) / 0.20, (v + 0.01) / 0.15)
    height += 0.055 * bump((beside - p.eye_spacing) / 0.17, (v - 0.0) / 0.10)
    height += 0.05 * bump((beside - 0.42) / 0.30, (v - p.brow_height - 0.03) / 0.085)
    lifted = v - 0.50 + 0.05 * p.smile
    height += (0.05 + 0.035 * p.smile) * p.cheeks * bump((beside - 0.56) / 0.22, lifted / 0.20)
    height += 0.045 * bump(c.u / 0.30, (v - p.mouth_height + 0.02) / 0.16)
    height += 0.05 * bump(c.u / 0.20, (v - p.chin + 0.22) / 0.15)
    height -= 0.035 * bump(c.u / 0.22, (v - p.mouth_height - 0.20) / 0.06)
    height -= 0.020 * bump(nose / 0.035, (v - p.nose_length - 0.13) / 0.08)
    height -= 0.05 * bump((aside - 0.075 * width) / 0.035, (tip_v - 0.125) / 0.025)
    return height - folds(p, c) * 0.022


def folds(p: Parameters, c: Canvas) -> Tensor:
    """Lines from the nose's wings to the mouth's corners, deeper with a smile and with age."""
    along = ((c.v - 0.52) / 0.42).clamp(-0.3, 1.3)
    beside = c.u.abs() - 0.24 - along * (mouth_half_width(p) - 0.13) * (1.5 - 0.5 * along)
    strength = 0.35 + 0.9 * p.lines + 0.5 * p.smile.clamp_min(0)
    return strength * bump(beside / 0.045) * step(along, -0.1, 0.25) * (1 - step(along, 0.7, 1.2))


def normals(height: Tensor, pixel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Unit normals (x, y, z) of a height field, by central differences."""
    x = torch.zeros_like(height)
    y = torch.zeros_like(height)
    torch.sub(height[:, :, :-2], height[:, :, 2:], out=x[:, :, 1:-1])
    torch.sub(height[:, :-2], height[:, 2:], out=y[:, 1:-1])
    x /= 2 * pixel
    y /= 2 * pixel
    z = torch.addcmul(x.square(), y, y).add_(1).rsqrt_()
    return x.mul_(z), y.mul_(z), z


def light_direction(p: Parameters) -> tuple[Tensor, Tensor, Tensor]:
    """Unit vector towards the key light: x, y and z, [N] each."""
    length = (p.light_x.square() + p.light_y.square() + 1).sqrt()
    return p.light_x / length, p.light_y / length, 1 / length


def lambert(p: Parameters, normal: tuple[Tensor, Tensor, Tensor], wrap: float = 0.35) -> Tensor:
    """Wrapped diffuse light, 0..1."""
    x, y, z = (n * d for n, d in zip(normal, light_direction(p), strict=True))
    return (x.add_(y).add_(z).add_(wrap) / (1 + wrap)).clamp_min_(0)


def specular(p: Parameters, normal: tuple[Tensor, Tensor, Tensor], power: float) -> Tensor:
    """Highlight of a viewer straight ahead (Blinn)."""
    x, y, z = light_direction(p)
    length = (x.square() + y.square() + (z + 1).square()).sqrt()
    facing = normal[0] * (x / length) + normal[1] * (y / length) + normal[2] * ((z + 1) / length)
    return facing.clamp_min_(0).pow_(power)


def irradiance(p: Parameters, normal: tuple[Tensor, Tensor, Tensor], shadow: Tensor) -> Tensor:
    """Coloured light on a surface, [N, 3, H, W]: a key light, and a sky above a warm ground."""
    key = (lambert(p, normal) * (1.22 - 0.75 * p.ambient)).mul_(shadow).unsqueeze(1)
    tint = colour(1 + p.light_warm, 1 + 0.2 * p.light_warm, 1 - 1.3 * p.light_warm)
    up = (0.5 - 0.5 * normal[1]).unsqueeze(1)
    sky, ground = constant(0.93, 0.98, 1.10, key), constant(0.62, 0.52, 0.46, key)
    fill = torch.lerp(ground.expand(-1, -1, 1, 1), sky, up) * p.ambient.unsqueeze(1)
    return torch.addcmul(fill, key, tint)


def cast_shadow(p: Parameters, c: Canvas) -> Tensor:
    """What the key light does not reach, as a factor: the nose's shadow and its underside."""
    tip = p.nose_length - 0.11 + nose_drop(p)
    nose = c.u - nose_line(p, c.v)
    beside = bump((nose + 0.20 * p.light_x.clamp(-1, 1)) / 0.12, (c.v - tip + 0.02) / 0.17)
    reach = (p.light_x.abs() * 0.9).clamp_max(0.55)
    under = bump(nose / (0.17 * p.nose_width), (c.v - tip - 0.145) / 0.045)
    away = step(-nose * p.light_x.sign(), -0.02, 0.12)
    return (1 - 0.62 * reach * beside * away) * (1 - 0.34 * under)


def occlusion(p: Parameters, c: Canvas) -> Tensor:
    """Ambient light lost in hollows, as a factor."""
    beside = c.u.abs()
    dark = 0.30 * bump((beside - 0.30) / 0.13, (c.v + 0.04) / 0.13)
    dark += 0.12 * bump((beside - 0.45) / 0.22, (c.v - 0.14) / 0.06)
    below = c.v - p.mouth_height - p.lower_lip - 0.06
    dark += 0.16 * bump(c.u / 0.20, below / 0.05)
    corner = c.v - mouth_line(p, torch.ones_like(p.smile))
    dark += 0.20 * bump((beside - mouth_half_width(p) - 0.02) / 0.05, corner / 0.05)
    nose = (c.u - nose_line(p, c.v)).abs() - 0.080 * p.nose_width
    dark += 0.62 * bump(nose / 0.034, (c.v - p.nose_length - nose_drop(p) + 0.012) / 0.022)
    return (1 - dark.clamp_max_(0.8)) * (1 - 0.16 * folds(p, c))
