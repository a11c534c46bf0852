"""Portraits, rendered and inverted, with what is true of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import torch
from torch import Tensor

from benchmarks.quality.portraits import Portraits, portraits, require_square
from encoders import ReStyle

STEPS = 5
_BATCH = 64


@dataclass(frozen=True)
class Inverted:
    """Portraits and their latents."""

    portraits: Portraits
    latents: Tensor  # [N, n_styles, w_dim]

    def labels(self, names: tuple[str, ...]) -> dict[str, pa.ChunkedArray]:
        """True attributes, as `restyle invert --keep-fields json` would give them."""
        return {name: pa.chunked_array([self.portraits.truth(name).numpy()]) for name in names}


def inverted(model: ReStyle, n: int, seed: int, keep: Path | None) -> Inverted:
    """Render and invert; portraits of the seed that lie in ``keep`` are taken from there."""
    path = None if keep is None else keep / f"{seed}.pt"
    if path is not None and path.exists():
        kept = torch.load(path, weights_only=True)
        if len(kept["z"]) >= n:
            return Inverted(Portraits(kept["z"][:n], kept["images"][:n]), kept["latents"][:n])
    shown = portraits(n, seed, require_square(model))
    with torch.inference_mode():
        found = [
            model.invert(images, n_steps=STEPS).latents[-1] for images in shown.images.split(_BATCH)
        ]
    latents = torch.cat(found).clone()
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"z": shown.z, "images": shown.images, "latents": latents}, path)
    return Inverted(shown, latents)


def drawn(model: ReStyle, latents: Tensor) -> Tensor:
    """What latents show, [N, 3, h, w] as the encoder sees it."""
    with torch.inference_mode():
        found = [model.to_input(model.draw(chunk)) for chunk in latents.split(_BATCH)]
    return torch.cat(found).clone()
