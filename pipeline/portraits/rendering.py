"""Parameters -> pictures: the layers from back to front, supersampled, in small chunks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from . import face, scene
from .fields import cover, mix, step
from .framing import View, frame
from .geometry import Canvas, canvas, outline
from .hair import hair
from .parameters import Parameters
from .shading import cast_shadow, irradiance, normals, occlusion, relief, specular

SUPERSAMPLING = 2
CHUNK_PIXELS = 1 << 18  # at once, so that the fields stay in the processor's cache


@torch.no_grad()
def render(z: Tensor, size: int = 256, view: View = "photo") -> Tensor:
    """Portraits of normals z [N, N_PARAMETERS]: images [N, 3, size, size] float32 in [-1, 1].

    "photo" shows head and shoulders with free margin, to be found and aligned; "aligned" shows the
    crop that FFHQ's alignment gives, scattered as much as real landmarks scatter it.
    """
    chunk = max(1, CHUNK_PIXELS // (SUPERSAMPLING * size) ** 2)
    chunks = (Parameters.from_normals(rows) for rows in z.split(chunk))
    return torch.cat([_render(p, size, view) for p in chunks])


def _render(p: Parameters, size: int, view: View) -> Tensor:
    fine = SUPERSAMPLING * size
    window = frame(p, view)
    pixel = (window.half * (2 / fine)).view(-1, 1, 1)
    linear = _compose(p, canvas(p, *window.grid(fine), pixel))
    display = linear.clamp_(0, 1).pow_(1 / 2.2)
    return F.avg_pool2d(display, SUPERSAMPLING).mul_(2).sub_(1)


def _compose(p: Parameters, c: Canvas) -> Tensor:
    """All layers, linear light [N, 3, H, W]."""
    locks = hair(p, c)
    picture = mix(scene.background(p, c), locks.rgb * 0.62, locks.back)
    picture = scene.neck(p, c, picture)
    picture = scene.clothes(p, c, picture)
    picture = scene.ears(p, c, picture)
    inside = outline(p, c.x, c.y)
    # Most of the work is in the face, which is a quarter of a photo.
    rows, columns = _window(inside + 3 * c.pixel)
    part, edge = c.crop(rows, columns), inside[:, rows, columns].contiguous()
    head = _head(p, part, locks.shadow[:, rows, columns], edge)
    covered = cover(edge, part.pixel + 0.008)
    picture[:, :, rows, columns] = mix(picture[:, :, rows, columns], head, covered)
    return mix(picture, locks.rgb, locks.front)


def _window(reach: Tensor) -> tuple[slice, slice]:
    """Rows and columns where any of a chunk's heads reaches; normals need a margin at their edge."""
    reached = (reach > -0.02).any(dim=0)
    rows, columns = (reached.any(dim=d).nonzero().flatten().tolist() for d in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _head(p: Parameters, c: Canvas, shadow: Tensor, inside: Tensor) -> Tensor:
    """The lit face with everything on it, [N, 3, H, W]."""
    normal = normals(0.80 * c.depth + relief(p, c), c.pixel)
    albedo = face.skin(p, c)
    albedo = face.brows(p, c, face.lips(p, c, face.beard(p, c, albedo)))
    rim = 0.72 + 0.28 * step(inside, 0.0, 0.16)
    light = irradiance(p, normal, cast_shadow(p, c))
    light = light * (occlusion(p, c) * shadow * rim).unsqueeze(1)
    shine = specular(p, normal, 22.0) * 0.085 * p.gloss * (1 - 0.4 * p.melanin)
    lit = torch.addcmul(shine.unsqueeze(1), albedo, light)
    lit = face.eyes(p, c, lit)
    return scene.glasses(p, c, lit)
