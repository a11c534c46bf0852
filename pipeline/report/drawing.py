"""Latents -> the pictures of each step, drawn by the generator of the run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
import torch

from encoders import ReStyle, load_inverter
from generators import CheckpointError
from generators.precision import float32_products
from pipeline.errors import ConfigError
from pipeline.faces.images import to_u8
from pipeline.inversion.actor import checkpoint_hashes
from pipeline.report.pictures import FACE_SIDE, Thumbnail, saved, thumbnail
from pipeline.report.source import Run

# Pixels drawn at once: four pictures of 1024 px.
BATCH_PIXELS = 4 * 1024**2


def load(run: Run, model: str | None, generator: str | None, notes: list[str]) -> ReStyle | None:
    """The run's model, checked against the hashes in its footer.

    Args:
        model, generator: where the checkpoints are now; None takes the paths that the run used. With
            those, a model that cannot be had is None and told in ``notes``.

    Raises:
        CheckpointError, ConfigError: the given model cannot be loaded or is another one.
    """
    given = model is not None or generator is not None
    path = model or run.footer.get("then") or run.footer["model"]
    try:
        # In float32 whatever the run used: the generator's weights, so the pictures, are the same.
        device = "cuda:0" if torch.cuda.is_available() else "cpu"
        found = load_inverter(path, generator or run.footer.get("generator"), device)
        _require_same(found, run, path)
    except (CheckpointError, ConfigError) as error:
        if given:
            raise
        notes.append(
            f"The model cannot be loaded here, so that only pictures that were saved are shown: "
            f"{str(error).rstrip('.')}. If it has moved, pass --model."
        )
        return None
    return found


def _require_same(found: ReStyle, run: Run, path: str) -> None:
    ours, theirs = checkpoint_hashes(found)["generator_sha256"], run.settings["generator_sha256"]
    if ours != theirs:
        raise ConfigError(
            f"the generator of {PurePath(path).name} is not the one that the latents were made for "
            f"(sha256 {ours[:12]}, the run used {theirs[:12]}); pass the checkpoint of the run as "
            "--model"
        )


def steps(
    rows: Sequence[dict[str, Any]], model: ReStyle | None, n_steps: int
) -> list[list[Thumbnail | None]]:
    """For each row a picture of every step; None where its latent or the model is missing."""
    drawn: list[list[Thumbnail | None]] = []
    for row in rows:
        pictures: list[Thumbnail | None] = [None] * n_steps
        if model is not None and row.get("latents_by_step") is not None:
            pictures = [*draw(model, row["latents_by_step"])]
        elif row.get("reconstruction") is not None:
            pictures[-1] = saved(row["reconstruction"])
        elif model is not None and row.get("latent") is not None:
            pictures[-1] = draw(model, row["latent"][None])[0]
        drawn.append(pictures)
    return drawn


def draw(model: ReStyle, latents: np.ndarray) -> list[Thumbnail]:
    """Latents [N, n_styles, w_dim] -> pictures."""
    resolution = model.generator.resolution
    n_at_once = max(1, BATCH_PIXELS // resolution**2)
    found = []
    with torch.inference_mode(), float32_products():
        for chunk in torch.from_numpy(latents).split(n_at_once):
            drawn = model.draw(chunk.to(model.latent_avg.device))
            found += [thumbnail(to_u8(image), FACE_SIDE) for image in drawn]
    return found
