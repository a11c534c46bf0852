"""The README's picture: aligned inputs of the demo and what each step makes of them.

restyle demo --out demo && python docs/contact_sheet.py demo/latents docs/demo.jpg
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from PIL import Image

from generators import load_generator
from pipeline import LatentDataset, images

N_PEOPLE = 6
CELL = 128
GAP = 4


def column(row: dict, synthesis: torch.nn.Module) -> np.ndarray:
    """One person from top to bottom: the aligned input, then every step."""
    with torch.inference_mode():
        drawn = synthesis(row["latents_by_step"].float())
    faces = [images.to_u8(image) for image in (row["aligned_image"], *drawn)]
    cells = [
        np.asarray(Image.fromarray(face).resize((CELL, CELL), Image.Resampling.LANCZOS))
        for face in faces
    ]
    return np.concatenate(
        [np.pad(cell, ((0, GAP), (0, GAP), (0, 0)), constant_values=255) for cell in cells]
    )


def main(latents: str, out: str) -> None:
    ds = LatentDataset(latents)
    synthesis = load_generator("demo").synthesis
    ok = [i for i in range(len(ds)) if ds[i]["status"] == "ok"]
    photo = [i for i in ok if ds[i]["key"] == "astronaut"]
    people = [i for i in ok if i not in photo][:: max(1, len(ok) // N_PEOPLE)][: N_PEOPLE - 1]
    sheet = np.concatenate([column(ds[i], synthesis) for i in [*people, *photo]], axis=1)
    Image.fromarray(sheet).save(out, quality=90)


if __name__ == "__main__":
    main(*sys.argv[1:3])
