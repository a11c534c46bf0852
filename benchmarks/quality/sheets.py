"""Contact sheets: rows of pictures in one file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pipeline.faces.images import to_u8

CELL, GAP = 128, 4
_QUALITY = 90
# Of a heat map from nothing to its largest value: dark is much.
_HEAT = ((1.0, 1.0, 1.0), (0.99, 0.72, 0.35), (0.75, 0.15, 0.25), (0.15, 0.02, 0.20))


def save(rows: Sequence[Tensor], path: Path) -> None:
    """Rows of images [n, 3, h, w] in [-1, 1], from top to bottom; of one length."""
    strips = [np.concatenate([_cell(image) for image in row], axis=1) for row in rows]
    Image.fromarray(np.concatenate(strips)).save(path, quality=_QUALITY)


def coloured(maps: Tensor) -> Tensor:
    """Heat maps [n, h, w], each in parts of its own largest value -> images [n, 3, h, w]."""
    share = maps / maps.amax(dim=(1, 2), keepdim=True).clamp_min(1e-9) * (len(_HEAT) - 1)
    stops = torch.tensor(_HEAT)
    below = share.floor().long().clamp(0, len(_HEAT) - 2)
    mixed = torch.lerp(stops[below], stops[below + 1], (share - below)[..., None])
    return mixed.permute(0, 3, 1, 2) * 2 - 1


def _cell(image: Tensor) -> np.ndarray:
    picture = Image.fromarray(to_u8(image)).resize((CELL, CELL), Image.Resampling.LANCZOS)
    return np.pad(np.asarray(picture), ((0, GAP), (0, GAP), (0, 0)), constant_values=255)
