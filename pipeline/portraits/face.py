"""The skin and what is drawn on it: blush, freckles, brows, eyes, lips, beard."""

from __future__ import annotations

import torch
from torch import Tensor

from .fields import bump, colour, constant, cover, mix, opponent, step
from .geometry import (
    BROW_HALF,
    BROW_MIDDLE,
    Canvas,
    brow_line,
    cupid,
    lid,
    mouth_gap,
    mouth_half_width,
    mouth_line,
    nose_drop,
    nose_line,
)
from .hair import hair_colour
from .parameters import Parameters


def skin_colour(p: Parameters) -> Tensor:
    """Linear RGB [N, 3, 1, 1]: from light to dark on one smooth path, with an undertone."""
    light = constant(0.84, 0.585, 0.455, p.melanin).log()
    dark = constant(0.150, 0.072, 0.042, p.melanin).log()
    path = torch.lerp(light, dark, p.melanin.unsqueeze(1).pow(1.35) * 0.92)
    return (path + colour(p.redness, -p.redness, -p.warmth - 0.5 * p.redness)).exp()


def lip_colour(p: Parameters) -> Tensor:
    """Skin darkened to red, under the lipstick, [N, 3, 1, 1]."""
    natural = skin_colour(p) * constant(0.66, 0.42, 0.43, p.smile)
    paint = constant(0.42, 0.045, 0.065, p.smile)
    share = p.lipstick.clamp(0, 0.8).unsqueeze(1)
    return torch.lerp(natural, paint.expand_as(natural), share)


def skin(p: Parameters, c: Canvas) -> Tensor:
    """Albedo of the bare skin, [N, 3, H, W]."""
    base = skin_colour(p).expand(-1, -1, *c.x.shape[1:])
    beside = c.u.abs()
    rosy = bump((beside - 0.58) / 0.22, (c.v - 0.48) / 0.20) * (0.10 + 0.30 * p.blush)
    rosy += 0.25 * bump((c.u - nose_line(p, c.v)) / 0.14, (c.v - 0.46 - nose_drop(p)) / 0.11)
    base = base * (1 + rosy.unsqueeze(1) * constant(0.06, -0.38, -0.36, base))
    spots = _spots(c) * bump(c.u / 0.55, (c.v - 0.40) / 0.20) * p.freckles
    return base * (1 - 0.55 * spots.unsqueeze(1) * constant(0.45, 0.75, 0.9, base))


def _spots(c: Canvas) -> Tensor:
    """Freckles: a soft dot somewhere in each cell of a grid, of a size that the cell's hash gives."""
    cell_u, cell_v = (c.u * 13).floor(), (c.v * 13).floor()
    hash_ = (cell_u * 12.9898 + cell_v * 78.233).sin() * 437.585
    right, down = 0.2 + 0.6 * hash_.frac().abs(), 0.2 + 0.6 * (hash_ * 7).frac().abs()
    radius = 0.16 * (hash_ * 3).frac().abs() + 0.01
    return bump((c.u * 13 - cell_u - right) / radius, (c.v * 13 - cell_v - down) / radius)


def brows(p: Parameters, c: Canvas, below: Tensor) -> Tensor:
    """The picture with brows drawn over it, [N, 3, H, W]."""
    t = (c.u.abs() - BROW_MIDDLE) / BROW_HALF
    taper = 1.05 - 0.28 * (t + 0.3).clamp(-1, 2).square()
    inside = (p.brow_thickness * taper - (c.v - brow_line(p, t)).abs()).clamp_max_(0.2)
    ends = cover(1.04 - t.abs(), 0.22)
    share = cover(inside, c.pixel + 0.030) * ends * p.brow_dark
    tint = hair_colour(p) * 0.55 + skin_colour(p) * 0.04
    return mix(below, tint, share)


def beard(p: Parameters, c: Canvas, below: Tensor) -> Tensor:
    """A beard along the jaw and a moustache, as a shade that hair of that colour gives."""
    jaw = c.v - 0.72 - 0.55 * bump(c.u / 0.42, (c.v - 0.5) / 0.5) + 0.30 * c.u.square()
    mouth = bump(c.u / (mouth_half_width(p) * 0.75), (c.v - p.mouth_height - 0.02) / 0.13)
    grain = 0.97 + 0.03 * torch.sin(53 * c.u + 4 * torch.sin(9 * c.v + 2 * c.u))
    share = step(jaw, -0.08, 0.26) * (1 - 0.9 * mouth) * p.beard
    lip = p.mouth_height - p.upper_lip - 0.065 + 0.20 * c.u.square()
    upper = bump(c.u / 0.27, (c.v - lip) / 0.050) * 1.15
    share = torch.maximum(share, upper.clamp_max_(1) * p.moustache)
    return mix(below, hair_colour(p) * 0.8, (share * grain * 0.86).clamp_(0, 1))


def lips(p: Parameters, c: Canvas, below: Tensor) -> Tensor:
    """Upper and lower lip, teeth in the gap, and the dark line the landmarks hang on."""
    half, gap = mouth_half_width(p), mouth_gap(p)
    t = c.u / half
    inside, offset = t.clamp(-1, 1), c.v - mouth_line(p, t.clamp(-1.3, 1.3))
    edge = c.pixel + 0.012
    upper, lower = cupid(inside), lid(inside)
    within = cover(1 - t.abs(), 0.06)
    body = cover(offset + (p.upper_lip + 0.35 * gap) * upper, edge)
    body *= cover((p.lower_lip + 0.65 * gap) * lower - offset, edge) * within
    shade = 0.72 + 0.42 * step(offset, -0.01, 0.05)
    painted = mix(below, lip_colour(p) * 1.0, body * 0.93) * torch.lerp(
        torch.ones_like(shade), shade, body
    ).unsqueeze(1)
    hole = cover(torch.minimum(offset + 0.35 * gap * lower, 0.65 * gap * lower - offset), edge)
    hole *= within * (gap > 0)
    painted = mix(painted, constant(0.055, 0.012, 0.012, below), hole)
    bite = cover(0.40 * gap * lower - offset, edge) * hole * cover(0.93 - t.abs(), 0.12)
    painted = mix(painted, constant(0.80, 0.76, 0.68, below), bite * 0.95)
    line = bump(offset / (0.020 + 0.010 * (1 - inside.square()))) * cover(1.05 - t.abs(), 0.1)
    closed = 1 - step(gap, 0.0, 0.035)
    return mix(painted, constant(0.045, 0.010, 0.010, below), line * (0.15 + 0.62 * closed))


def eyes(p: Parameters, c: Canvas, below: Tensor) -> Tensor:
    """Sclera, ringed iris, pupil and catchlight behind the lids, lashes and crease around them."""
    side = c.u.sign()
    along = c.u.abs() - p.eye_spacing
    t = (along / p.eye_size).clamp(-1.6, 1.6)
    height = c.v + p.eye_tilt * along
    top = p.eye_size * p.eye_open * lid(t)
    edge = c.pixel + 0.008
    open_ = cover(torch.minimum(height + top, 0.62 * top - height), edge) * cover(1 - t.abs(), 0.05)
    shade = 0.62 + 0.38 * step(height + top, 0.0, 0.10)
    ball = (constant(0.78, 0.76, 0.74, below) * (1 - 0.22 * t.square()).unsqueeze(1)).clone()
    x, y = along - p.gaze_x * side, height + 0.012 - p.gaze_y
    radius = torch.addcmul(x.square(), y, y).add_(1e-8).sqrt_()
    iris = opponent(0.115 * (0.85 * p.iris_light).exp(), p.iris_warm + 0.08, p.iris_green)
    bright = 0.75 + 0.55 * step(y, -0.05, 0.09)
    ring = 1 - 0.65 * step(radius, p.iris_size * 0.72, p.iris_size)
    ball = mix(ball, iris * (bright * ring).unsqueeze(1), cover(p.iris_size - radius, edge))
    pupil = cover(p.iris_size * 0.44 - radius, edge)
    ball = mix(ball, constant(0.008, 0.007, 0.007, below), pupil)
    glint_x, glint_y = (along * side - p.gaze_x - 0.035 * (1 + p.light_x)), y + 0.045
    glint = cover(0.028 - torch.addcmul(glint_x.square(), glint_y, glint_y).sqrt(), edge)
    ball = mix(ball * shade.unsqueeze(1), constant(1.0, 1.0, 1.0, below), glint * 0.9)
    painted = mix(below, ball, open_)
    near = cover(1.12 - t.abs(), 0.14)
    lash = bump((height + top + 0.004) / (0.014 + 0.010 * step(t, -0.6, 0.9))) * p.lashes
    painted = mix(painted, constant(0.022, 0.014, 0.012, below), (lash * near * 0.82).clamp_max_(1))
    under = bump((height - 0.62 * top - 0.004) / 0.012) * near
    crease = bump((height + 1.05 * top + 0.062) / 0.017) * cover(1.1 - t.abs(), 0.5)
    return painted * (1 - 0.26 * under - 0.34 * crease).unsqueeze(1)
