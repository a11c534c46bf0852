"""How good an encoder in training is, on images that it does not learn from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from encoders.loop import Inversion
from encoders.metrics.distances import ms_ssim, mse
from encoders.restyle import ReStyle
from encoders.training.losses import Objective
from generators.training.protocol import Validation

_N_SHOWN = 8  # images in the grid


@torch.no_grad()
def validate(
    model: ReStyle, objective: Objective, images: Tensor, n_steps: int, batch_size: int
) -> Validation:
    """Distances of the reconstructions from images [N, 3, h, w] in [-1, 1], as means over the images.

    `mse`, `ms_ssim` and, where their networks are loaded, `lpips` and the cosine `identity`, one number a
    step; the score is the objective after the last step, without what discriminators say.
    """
    by_name: dict[str, list[Tensor]] = {}
    totals: list[Tensor] = []
    grids: list[Tensor] = []
    for chunk in images.split(batch_size):
        result = model.invert(chunk, n_steps)
        total = objective(result.thumbnails[-1], result.target, result.latents[-1])["total"]
        totals.append(total * len(chunk))
        for name, values in _measured(result, objective):
            by_name.setdefault(name, []).append(values)
        if sum(grid.shape[1] for grid in grids) < _N_SHOWN:
            grids.append(torch.cat([result.target[None], result.thumbnails]))
    distances = {
        name: torch.cat(parts, dim=1).mean(dim=1).tolist() for name, parts in by_name.items()
    }
    grid = torch.cat(grids, dim=1)[:, :_N_SHOWN].cpu()
    return Validation(distances, torch.stack(totals).sum().item() / len(images), grid)


def _measured(result: Inversion, objective: Objective) -> Sequence[tuple[str, Tensor]]:
    """Each distance's name, and its values, [n_steps, N]."""
    of = {"mse": mse, "ms_ssim": ms_ssim} | {
        name: objective.measures[name]
        for name in ("lpips", "identity")
        if name in objective.measures
    }
    steps = result.thumbnails
    return [
        (name, torch.stack([distance(step, result.target) for step in steps]))
        for name, distance in of.items()
    ]
