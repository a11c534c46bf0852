"""Portraits that no training has seen, and what is true of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from encoders import ReStyle
from pipeline.portraits import attributes, landmarks, render, sample, scene
from pipeline.portraits.framing import frame
from pipeline.portraits.geometry import Canvas, canvas, outline
from pipeline.portraits.hair import hair
from pipeline.portraits.parameters import Parameters

# Landmarks of iBUG 300-W that go around a feature; eyes are drawn with the brows above them.
FEATURES = {
    "eyes": [[*range(17, 22), *range(39, 42), 36], [*range(22, 27), 45, 46, 47, 42]],
    "nose": [[27, 31, 32, 33, 34, 35]],
    "mouth": [[*range(48, 60)]],
}
REGIONS = (*FEATURES, "skin", "hair", "background")
_FINE = 4  # masks are drawn this much larger
_MARGIN = 0.02  # of the picture's side, around a feature


@dataclass(frozen=True)
class Portraits:
    """Rendered, aligned, with the normals that they were rendered from."""

    z: Tensor  # [N, N_PARAMETERS]
    images: Tensor  # [N, 3, size, size] in [-1, 1]

    @property
    def size(self) -> int:
        return self.images.shape[-1]

    def truth(self, attribute: str) -> Tensor:
        """A true attribute in its own unit, [N]."""
        return attributes(self.z)[attribute]

    def masks(self) -> dict[str, Tensor]:
        """Region -> its share of each pixel, [N, size, size]; the regions share out the picture.

        Features lie within the true landmarks; hair and head are the renderer's own shapes. What is
        neither is background: the wall, and neck and clothes before it.
        """
        points = landmarks(self.z, self.size, "aligned")
        left = torch.ones(len(self.z), self.size, self.size)
        found = {}
        for name, outlines in FEATURES.items():
            found[name] = torch.stack([_drawn(each, outlines, self.size) for each in points]) * left
            left = left - found[name]
        front, head = _hair_and_head(self.z, self.size)
        found["skin"] = left * head * (1 - front)
        found["hair"] = left * front
        found["background"] = left - found["skin"] - found["hair"]
        return found


def portraits(n: int, seed: int, size: int) -> Portraits:
    z = sample(n, seed)
    return Portraits(z, render(z, size, "aligned"))


def require_square(model: ReStyle) -> int:
    """The side of what the model sees; ValueError where portraits do not fit."""
    height, width = model.input_size
    if height != width:
        raise ValueError(f"portraits are square, but this model sees {width}x{height} pixels")
    return height


def _hair_and_head(z: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Shares of hair, hanging behind the head or lying over it, and of the head's outline."""
    fronts, heads = [], []
    for rows in z.split(64):
        p = Parameters.from_normals(rows)
        window = frame(p, "aligned")
        pixel = (window.half * (2 / size)).view(-1, 1, 1)
        c = canvas(p, *window.grid(size), pixel)
        head = (outline(p, c.x, c.y) / pixel + 0.5).clamp(0, 1)
        locks = hair(p, c)
        hanging = locks.back * (1 - head) * _uncovered(p, c)
        fronts.append(torch.maximum(locks.front, hanging))
        heads.append(head)
    return torch.cat(fronts), torch.cat(heads)


def _uncovered(p: Parameters, c: Canvas) -> Tensor:
    """How much neck, clothes and ears let be seen of what is behind them: [N, H, W]."""

    def before(wall: Tensor) -> Tensor:
        return scene.ears(p, c, scene.clothes(p, c, scene.neck(p, c, wall)))

    # They are painted over by linear interpolation: white minus black is what is left of the wall.
    black = c.x.new_zeros(len(c.x), 3, *c.x.shape[1:])
    return (before(black + 1) - before(black))[:, 0]


def _drawn(points: Tensor, outlines: list[list[int]], size: int) -> Tensor:
    """Polygons through landmarks [68, 2] in pixels, with a margin; shares [size, size]."""
    picture = Image.new("L", (_FINE * size, _FINE * size))
    pen = ImageDraw.Draw(picture)
    width = round(2 * _MARGIN * size * _FINE)
    for outline_ in outlines:
        corners = [(x * _FINE, y * _FINE) for x, y in points[outline_].tolist()]
        pen.polygon(corners, fill=255)
        pen.line([*corners, corners[0], corners[1]], fill=255, width=width, joint="curve")
    small = picture.resize((size, size), Image.Resampling.BOX)
    return torch.from_numpy(np.asarray(small, dtype=np.float32) / 255)
