"""Images of random z: whether they look like portraits to who has never seen the generator."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.quality.distances import sharpness
from encoders import ReStyle
from pipeline.faces import detection
from pipeline.faces.images import to_u8


@dataclass(frozen=True)
class Samples:
    """Against the held-out portraits."""

    n: int
    detected: float  # share in which dlib's detector finds a face
    detected_of_portraits: float
    score: float  # mean score of the detector, 0 where it finds none; 1 is a clear face
    score_of_portraits: float
    sharpness: float  # mean gradient magnitude, in parts of the portraits'


def draw(model: ReStyle, n: int, seed: int, batch: int) -> Tensor:
    """Images [n, 3, h, w] of normal z, one style vector for every layer, no truncation; on the CPU."""
    generator = model.generator
    source = torch.Generator().manual_seed(seed)
    z = torch.randn(n, generator.config.z_dim, generator=source).to(model.latent_avg.device)
    labels = generator.mapping.random_labels(n, source)
    with torch.inference_mode():
        w = generator.mapping(z, labels=labels)[:, None].expand(-1, generator.n_styles, -1)
        drawn = [model.to_input(model.draw(chunk)) for chunk in w.split(batch)]
    return torch.cat(drawn).cpu().clone()


def measure(samples: Tensor, portraits: Tensor) -> Samples:
    ours, theirs = _scores(samples), _scores(portraits)
    return Samples(
        len(samples),
        float((ours > 0).float().mean()),
        float((theirs > 0).float().mean()),
        float(ours.mean()),
        float(theirs.mean()),
        sharpness(samples) / sharpness(portraits),
    )


def _scores(images: Tensor) -> Tensor:
    """The detector's score of the largest face, 0 where there is none; [N]."""
    size = (detection.ALIGNED_SIDE, detection.ALIGNED_SIDE)
    found = []
    for image in images:
        large = F.interpolate(image[None], size, mode="bilinear", antialias=True)[0]
        seen = detection.detect(to_u8(large))
        found.append(seen[0].score if seen else 0.0)
    return torch.tensor(found)
