"""How far pictures are from their targets, as means over the portraits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from encoders.metrics.distances import ms_ssim, mse, psnr
from encoders.metrics.dlib_face import DlibFace, load_dlib_face, similarity
from pipeline.faces import detection
from pipeline.faces.images import to_u8


@dataclass(frozen=True)
class Distances:
    """Means over the portraits, at the encoder's input size."""

    mse: float
    psnr: float
    ms_ssim: float
    identity: float  # 1 - the distance of dlib's face descriptors
    sharpness: float  # mean gradient magnitude, in parts of the targets'


def measure(targets: Tensor, pictures: Sequence[Tensor]) -> list[Distances]:
    """Several sets of pictures [N, 3, h, w] of the same targets."""
    whole = sharpness(targets)
    return [
        Distances(
            mse=float(mse(each, targets).mean()),
            psnr=float(psnr(each, targets).mean()),
            ms_ssim=float(ms_ssim(each, targets).mean()),
            identity=identity,
            sharpness=sharpness(each) / whole,
        )
        for each, identity in zip(pictures, identities(targets, pictures), strict=True)
    ]


def identities(targets: Tensor, pictures: Sequence[Tensor]) -> list[float]:
    """Mean of 1 - the distance of dlib's descriptors, face seen or not; each target is described once."""
    of_targets = _descriptors(targets)
    return [float(similarity(of_targets, _descriptors(each)).mean()) for each in pictures]


def _descriptors(images: Tensor) -> Tensor:
    """[N, 3, h, w] in [-1, 1] -> [N, 128]."""
    chips = np.stack([detection.chip_aligned(to_u8(image)) for image in images])
    return torch.cat([_network().describe(part) for part in torch.from_numpy(chips).split(32)])


@cache
def _network() -> DlibFace:
    return load_dlib_face(detection.recogniser_path())


def sharpness(images: Tensor) -> float:
    """Mean magnitude of the gradient between neighbouring pixels, over colours and images."""
    across = images[:, :, :-1, 1:] - images[:, :, :-1, :-1]
    down = images[:, :, 1:, :-1] - images[:, :, :-1, :-1]
    return float((across.square() + down.square()).sqrt().mean())
