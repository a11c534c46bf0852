"""How still a video is before and after smoothing: ``python -m benchmarks.video [--frames 48] [--size 256]``.

A rendered portrait turns its head and smiles, its frames are inverted as they are found and averaged over
time, and the rows are drawn and pasted back. What moves between two frames is the head's own motion and the
jitter of landmarks and latents: the first is the same for all.
"""

from __future__ import annotations

import math
from dataclasses import fields

import numpy as np
import torch

TURN, SMILE = (
    (1.2, 1),
    (-1.0, 1.8),
)  # yaw's amplitude and periods; smile at both ends: standard deviations


def portrait_clip(n: int, size: int, seed: int = 3) -> np.ndarray:
    """Frames [n, size, size, 3] uint8 of a portrait that turns its head and begins to smile."""
    from pipeline import portraits
    from pipeline.faces import images
    from pipeline.portraits.parameters import Parameters

    place = {field.name: i for i, field in enumerate(fields(Parameters))}
    z = portraits.sample(1, seed).repeat(n, 1)
    time = torch.linspace(0, 1, n)
    for hidden in ("glasses", "beard", "moustache"):
        z[:, place[hidden]] = -1.0
    z[:, place["yaw"]] = TURN[0] * torch.sin(2 * math.pi * TURN[1] * time)
    z[:, place["smile"]] = SMILE[0] + (SMILE[1] - SMILE[0]) * time
    # Portraits are drawn of normals of one length: glasses that nobody sees take up what is left.
    z[:, place["lens_size"]] = 0
    rest = z.square().sum(dim=1)
    z[:, place["lens_size"]] = (rest.max() - rest).sqrt()
    return np.stack([images.to_u8(image) for image in portraits.render(z, size)])
