"""Where things are: the head's depth, its turning, its outline, landmarks and picture quads.

Plane coordinates (x right, y down, half a face width = 1) lie in the picture; feature coordinates
(u, v) lie on the face, and both agree for a face seen from the front. The head is a rounded solid
whose outline keeps its place while the features turn inside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .fields import step
from .parameters import Parameters

DEPTH = 0.95  # of the face's centre before the outline
HALF_WIDTH, HALF_HEIGHT, MIDDLE = 1.14, 1.80, 0.05  # of the solid
BROW_LINE = 0.05  # where the jaw's half of the outline begins
TOP = -1.45  # of the skull


@dataclass(frozen=True)
class Canvas:
    """The pixels of a picture, all [N, H, W], and the size of one in plane units."""

    x: Tensor
    y: Tensor
    u: Tensor
    v: Tensor
    depth: Tensor
    pixel: Tensor  # [N, 1, 1]

    def crop(self, rows: slice, columns: slice) -> Canvas:
        """The part of the canvas in some rows and columns."""
        x, y, u, v, depth = (
            f[:, rows, columns].contiguous() for f in (self.x, self.y, self.u, self.v, self.depth)
        )
        return Canvas(x, y, u, v, depth, self.pixel)


def head_depth(x: Tensor, y: Tensor) -> Tensor:
    """Depth of the solid over the picture plane, `DEPTH` at its middle."""
    square = 1 - (x / HALF_WIDTH).square() - ((y - MIDDLE) / HALF_HEIGHT).square()
    return DEPTH * square.clamp_min(0.015).sqrt()


def unproject(p: Parameters, x: Tensor, y: Tensor, depth: Tensor) -> tuple[Tensor, Tensor]:
    """Plane -> feature coordinates: undo the pitch, then the yaw."""
    v = y * p.pitch.cos() - depth * p.pitch.sin()
    forward = y * p.pitch.sin() + depth * p.pitch.cos()
    return x * p.yaw.cos() - forward * p.yaw.sin(), v


def project(p: Parameters, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Feature -> plane coordinates: the fixed point of `unproject` (a contraction on the face)."""
    x, y = u, v
    for _ in range(24):
        depth = head_depth(x, y)
        y = (v + depth * p.pitch.sin()) / p.pitch.cos()
        forward = y * p.pitch.sin() + depth * p.pitch.cos()
        x = (u + forward * p.yaw.sin()) / p.yaw.cos()
    return x, y


def canvas(p: Parameters, x: Tensor, y: Tensor, pixel: Tensor) -> Canvas:
    """The canvas at points of the picture plane, [N, H, W] each."""
    depth = head_depth(x, y)
    return Canvas(x, y, *unproject(p, x, y, depth), depth, pixel)


def nose_line(p: Parameters, v: Tensor) -> Tensor:
    """Sideways shift of the nose, which stands out before the face: most at its tip."""
    rise = step(v, -0.25, 0.42) * (1 - 0.6 * step(v, 0.45, 0.60))
    return p.yaw.sin() * p.nose_tip * 0.30 * rise


def nose_drop(p: Parameters) -> Tensor:
    """Downwards shift of the nose's tip when the head nods."""
    return p.pitch.sin() * p.nose_tip * 0.30


def chin_y(p: Parameters) -> Tensor:
    """Height of the chin in the picture plane, [N]."""
    return p.chin * p.pitch.cos() + 0.45 * p.pitch.sin()


def jaw_centre(p: Parameters, y: Tensor) -> Tensor:
    """The chin stands before the neck: it follows the turn, the temples do not."""
    return 0.36 * p.yaw.sin() * step(y, 0.2, 1.55)


def outline(p: Parameters, x: Tensor, y: Tensor) -> Tensor:
    """Signed distance (about) to the head's outline in the plane, positive inside."""
    below = ((y - BROW_LINE) / (chin_y(p) - BROW_LINE)).clamp_min(0)
    above = ((BROW_LINE - y) / (BROW_LINE - TOP)).clamp_min(0)
    width = p.head_width * (1 - p.taper * below.clamp_max(1.3))
    aside = ((x - jaw_centre(p, y)) / width).abs().clamp_min(1e-4)
    power = torch.where(y > BROW_LINE, p.jaw, 2.2)
    norm = (aside.pow(power) + (below + above).clamp_min(1e-4).pow(power)).pow(1 / power)
    return (1 - norm) * (0.95 + 0.3 * (below + above).clamp_max(1))


def _jaw_points(p: Parameters) -> tuple[Tensor, Tensor]:
    """The outline from ear to chin to ear, 17 points [N, 1, 17] in the plane."""
    t = torch.linspace(-1, 1, 17, device=p.yaw.device)
    # The exponent spaces them as dlib does, further apart at the chin.
    angle = t.sign() * t.abs().pow(0.72) * (torch.pi / 2)
    below = angle.cos().clamp_min(0).pow(2 / p.jaw)
    y = BROW_LINE + (chin_y(p) - BROW_LINE) * below
    width = p.head_width * (1 - p.taper * below)
    x = jaw_centre(p, y) + width * angle.sin().sign() * angle.sin().abs().pow(2 / p.jaw)
    return x, y


def mouth_line(p: Parameters, t: Tensor) -> Tensor:
    """Height of the line between the lips at t = -1..1 across the mouth."""
    return p.mouth_height + 0.035 * p.smile - 0.115 * p.smile * t.square()


def mouth_half_width(p: Parameters) -> Tensor:
    """From the middle of the mouth to its corner, [N]."""
    return p.mouth_width * (1 + 0.14 * p.smile)


def mouth_gap(p: Parameters) -> Tensor:
    """Opening between the lips at the middle, 0 for a closed mouth."""
    return 0.115 * p.mouth_open.clamp_min(0)


def cupid(t: Tensor) -> Tensor:
    """Outline of the upper lip over t = -1..1: 0 at the corners, 1 at its two peaks."""
    fall = (1 - t.square()).clamp_min(0)
    return fall.pow(0.8) * (1 - 0.22 * torch.exp(-0.5 * (t / 0.14).square()))


def lid(t: Tensor) -> Tensor:
    """Outline of a lid over t = -1..1: 1 at the middle, 0 at the corners."""
    return (1 - t.square()).clamp_min(0).pow(0.75)


def brow_line(p: Parameters, t: Tensor) -> Tensor:
    """Height of the brow at t = -1 (nose side) .. 1 (temple side)."""
    return p.brow_height + p.brow_tilt * t - p.brow_arch * (1 - (t - 0.12).square()) + 0.045


BROW_MIDDLE, BROW_HALF = 0.47, 0.31


def _feature_points(p: Parameters) -> tuple[Tensor, Tensor]:
    """Landmarks 17..67 in feature coordinates, [N, 1, 51] each."""
    like = p.yaw
    row = lambda *values: like.new_tensor(values).view(1, 1, -1)  # noqa: E731
    parts: list[tuple[Tensor, Tensor]] = []
    t = row(-1, -0.5, 0, 0.5, 1)
    for side in (-1, 1):
        across = side * t  # -1 is next to the nose
        parts.append((side * (BROW_MIDDLE + BROW_HALF * across), brow_line(p, across) - 0.01))
    v = row(0.0, 0.14, 0.28, 0.42) * (p.nose_length / 0.565) + nose_drop(p) * row(0, 0.3, 0.6, 1)
    parts.append((nose_line(p, v), v))
    t = row(-1, -0.5, 0, 0.5, 1)
    v = p.nose_length + row(-0.02, 0.005, 0.02, 0.005, -0.02) + 0.5 * nose_drop(p)
    parts.append((nose_line(p, v) + 0.19 * p.nose_width * t, v))
    for side in (-1, 1):
        across = row(1, 0.36, -0.36, -1, -0.36, 0.36) * -side  # 1 is the outer corner
        up = p.eye_size * p.eye_open * lid(across) * row(0, -1, -1, 0, 0.62, 0.62)
        height = up - p.eye_tilt * p.eye_size * across
        parts.append((side * (p.eye_spacing + p.eye_size * across), height))
    parts.extend(_mouth_points(p, row))
    pairs = [torch.broadcast_tensors(u, v) for u, v in parts]
    return torch.cat([u for u, _ in pairs], dim=-1), torch.cat([v for _, v in pairs], dim=-1)


def _mouth_points(p: Parameters, row) -> list[tuple[Tensor, Tensor]]:
    """Landmarks 48..67: the lips' outer, then inner edges."""
    half, gap = mouth_half_width(p), mouth_gap(p)
    t = row(-1, -0.62, -0.24, 0, 0.24, 0.62, 1, 0.62, 0.24, 0, -0.24, -0.62)
    upper = -(p.upper_lip + 0.35 * gap) * cupid(t)
    lower = (p.lower_lip + 0.65 * gap) * lid(t)
    top = row(1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0)
    outer = mouth_line(p, t) + torch.where(top > 0, upper, lower)
    s = row(-0.85, -0.3, 0, 0.3, 0.85, 0.3, 0, -0.3)
    inner = mouth_line(p, s) + gap * lid(s) * row(-0.35, -0.35, -0.35, -0.35, 0, 0.65, 0.65, 0.65)
    return [(half * t, outer), (half * s, inner)]


def plane_landmarks(p: Parameters) -> Tensor:
    """The 68 landmarks in dlib's order, [N, 68, 2] in plane coordinates."""
    features = torch.stack(project(p, *_feature_points(p)), dim=-1)
    jaw = torch.stack(torch.broadcast_tensors(*_jaw_points(p)), dim=-1)
    return torch.cat([jaw, features], dim=2).squeeze(1)
