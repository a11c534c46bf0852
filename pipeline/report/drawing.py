"""Latents -> the pictures of each step, drawn by the generator of the run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from generators import CheckpointError
from pipeline.errors import ConfigError
from pipeline.models import DrawConfig, LatentRenderer
from pipeline.report.pictures import FACE_SIDE, Thumbnail, saved, thumbnail
from pipeline.report.source import Run

N_DRAWN = 4  # pictures at once


def load(
    run: Run, model: str | None, generator: str | None, notes: list[str]
) -> LatentRenderer | None:
    """What draws the run's latents.

    Args:
        model, generator: where the checkpoints are now; None takes the paths that the run used. With
            those, a model that cannot be had is None and told in ``notes``.

    Raises:
        CheckpointError, ConfigError: the given model cannot be loaded or is another one.
    """
    given = model is not None or generator is not None
    try:
        # In float32 whatever the run used: the generator's weights, so the pictures, are the same.
        config = DrawConfig(model=model, generator=generator, batch_size=N_DRAWN)
        return LatentRenderer(run.footer, config)
    except (CheckpointError, ConfigError) as error:
        if given:
            raise
        notes.append(
            f"The model cannot be loaded here, so only saved pictures are shown: "
            f"{str(error).rstrip('.')}. If it has moved, pass --model."
        )
        return None


def steps(
    rows: Sequence[dict[str, Any]], renderer: LatentRenderer | None, n_steps: int
) -> list[list[Thumbnail | None]]:
    """For each row a picture of every step; None where its latent or the model is missing."""
    drawn: list[list[Thumbnail | None]] = []
    for row in rows:
        pictures: list[Thumbnail | None] = [None] * n_steps
        if renderer is not None and row.get("latents_by_step") is not None:
            pictures = [*draw(renderer, row["latents_by_step"])]
        elif row.get("reconstruction") is not None:
            pictures[_kept(row, n_steps)] = saved(row["reconstruction"])
        elif renderer is not None and row.get("latent") is not None:
            pictures[_kept(row, n_steps)] = draw(renderer, row["latent"][None])[0]
        drawn.append(pictures)
    return drawn


def _kept(row: dict[str, Any], n_steps: int) -> int:
    """Where the picture of a row's latent stands: not last, where the best step was kept."""
    return min(row.get("n_steps") or n_steps, n_steps) - 1


def draw(renderer: LatentRenderer, latents: np.ndarray) -> list[Thumbnail]:
    """The pictures of latents [N, n_styles, w_dim]."""
    return [thumbnail(picture, FACE_SIDE) for picture in renderer.draw(latents)]
