"""Hair: an outer shape minus a face opening, with strands and a sheen."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .fields import bump, constant, cover, step, superellipse
from .geometry import Canvas
from .parameters import Parameters
from .shading import irradiance


def hair_colour(p: Parameters) -> Tensor:
    """Linear RGB [N, 3, 1, 1]: black - brown - blond, some of it red, some grey."""
    dark, light = constant(0.012, 0.009, 0.008, p.sheen), constant(0.62, 0.41, 0.17, p.sheen)
    path = torch.lerp(dark.log(), light.log(), p.hair_light.unsqueeze(1).pow(0.9))
    red = p.hair_red.unsqueeze(1) * constant(1.0, -0.35, -1.1, p.sheen)
    tinted = (path + red + constant(0.10, 0.0, -0.05, p.sheen)).exp()
    grey = constant(0.46, 0.46, 0.48, p.sheen) * (0.5 + 0.6 * p.hair_light.unsqueeze(1))
    return torch.lerp(tinted, grey, 0.85 * p.hair_grey.unsqueeze(1))


@dataclass(frozen=True)
class Hair:
    """`back` hangs behind the neck, `front` lies over the head: shares [N, H, W]; lit `rgb`."""

    back: Tensor
    front: Tensor
    rgb: Tensor
    shadow: Tensor  # on the skin below the front


def hair(p: Parameters, c: Canvas) -> Hair:
    """Hair in front of the face and behind it."""
    outer = _outer(p, c)
    hole = _opening(p, c)
    edge = c.pixel + 0.025
    whole = cover(outer, edge)
    front = whole * cover(hole, c.pixel + 0.045)
    behind = whole * step(p.hair_length, 0.32, 0.50)
    shadow = 1 - 0.45 * bump((hole - 0.02).clamp_max(0) / 0.10) * step(c.y, 1.4, -0.2)
    return Hair(behind, front, _lit(p, c, outer), shadow)


def _end(p: Parameters) -> Tensor:
    """How far down it hangs: from above the ears to the shoulders."""
    return -0.12 + 2.6 * (p.hair_length - 0.12).clamp_min(0).pow(1.25)


def _outer(p: Parameters, c: Canvas) -> Tensor:
    """Signed distance (about) to the outer shape, positive inside."""
    wave = 0.035 * p.curl * torch.sin(8.5 * c.y + 2.0 * c.x.sign()) * step(c.y, -0.9, 0.2)
    top = (c.y + 0.05).clamp_max(0) / (1.42 + 0.95 * p.hair_volume)
    long = step(p.hair_length, 0.3, 0.8)
    flare = (0.10 * long - 0.03) * step(c.y, -0.2, 1.3)
    width = p.head_width * 1.02 + 0.80 * p.hair_volume * (0.45 + 0.55 * long) + flare + wave
    crown = 1 - superellipse(c.x / width, top, 2.3)
    ragged = 0.05 * torch.sin(5 * c.x + p.parting) + 0.02 * torch.sin(23 * c.x)
    end = _end(p) - c.y + ragged - 0.22 * c.x.square() * long
    return torch.minimum(crown, end.clamp_max(0.5) * 0.9)


def _opening(p: Parameters, c: Canvas) -> Tensor:
    """Signed distance (about) outwards from the face's opening, positive where hair is."""
    swept = p.parting * c.u
    top = p.hairline + p.fringe * (0.40 + 0.10 * swept) + 0.10 * swept * (1 - p.fringe)
    top = top - 0.13 * (1 - p.fringe) * bump((c.u - 0.35 * p.parting) / 0.22)
    rise = ((0.35 - c.v) / (0.35 - top)).clamp_min(0)
    width = 0.90 + 0.05 * (1 - step(p.hair_length, 0.2, 0.5)) + 0.04 * step(c.v, 0.2, 1.2)
    return superellipse(c.u / width, rise, 2.9) - 1


def _lit(p: Parameters, c: Canvas, outer: Tensor) -> Tensor:
    """Colour under the light, [N, 3, H, W]."""
    from_part = c.x - 0.35 * p.parting * (1 - step(c.y, -0.7, 0.6))
    angle = torch.atan2(from_part, (0.1 - c.y).clamp_min(0) + 0.62)
    bend = p.curl * 1.3 * torch.sin(5.5 * c.y + 2.5 * angle)
    strands = torch.sin(15 * angle + bend) + 0.8 * torch.sin(27 * angle + 1.3 * bend + 1.0)
    strands += 0.7 * torch.sin(49 * angle + 1.9 * bend + 2.0)
    width, height = 1.25 + 0.7 * p.hair_volume, 1.58 + 0.95 * p.hair_volume
    flat = 1 - (c.x / width).square() * 0.9 - (c.y.clamp_max(0) / height).square() * 0.9
    z = flat.clamp_min(0.05).sqrt()
    x, y = c.x / width, c.y.clamp_max(0) / height
    length = (x.square() + y.square() + z.square()).sqrt()
    light = irradiance(p, (x / length, y / length, z / length), torch.ones_like(z))
    rim = 0.68 + 0.32 * step(outer, 0.0, 0.22)
    body = (rim * (1 + 0.13 * strands)).unsqueeze(1)
    band = bump((c.y + 0.98 - 0.25 * c.x.square() + 0.03 * strands) / 0.16)
    band = band * (1 + 0.25 * strands) * bump((c.x - 0.5 * p.light_x) / 0.62) * p.sheen
    base = hair_colour(p)
    shine = (0.05 + 0.28 * base.mean(dim=1, keepdim=True)) * band.unsqueeze(1)
    return base * light * body + shine
