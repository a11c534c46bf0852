"""Latents -> pictures, drawn by the generator of the run that the latents are of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from encoders import ReStyle, load_inverter, require_precision
from generators.precision import float32_products
from pipeline.config import Precision
from pipeline.errors import ConfigError, OutOfMemory
from pipeline.faces.images import to_u8
from pipeline.inversion.actor import checkpoint_hashes


class LatentRenderer:
    """Draws what latents of one run show.

    Args:
        footer: of a file of the run; names its model and says what its weights were.
        model, generator: where the checkpoints are now; None takes the paths that the run used.

    Raises:
        CheckpointError, ConfigError: no such file, or other weights than the run had.
    """

    def __init__(
        self,
        footer: Mapping[str, Any],
        model: str | None = None,
        generator: str | None = None,
        precision: Precision = "fp32",
        batch_size: int = 8,  # latents drawn together
    ) -> None:
        device = "cuda:0" if torch.cuda.is_available() else "cpu"
        try:
            require_precision(precision, device)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        self._model = load(footer, model, generator).at(precision).to(device)
        self._batch_size = batch_size

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a picture."""
        return self._model.view.size(self._model.generator.resolution)

    def draw(self, latents: np.ndarray) -> list[np.ndarray]:
        """Latents [N, n_styles, w_dim] -> pictures, each [H, W, 3] uint8.

        Raises:
            OutOfMemory: so many do not fit.
        """
        if not len(latents):
            return []
        device = self._model.latent_avg.device
        found = []
        try:
            with torch.inference_mode(), float32_products(self._model.precision):
                for chunk in torch.from_numpy(latents).float().split(self._batch_size):
                    found += [to_u8(image) for image in self._model.draw(chunk.to(device))]
        except RuntimeError as error:  # torch.OutOfMemoryError is one; on a CPU it is just that
            if isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error):
                raise OutOfMemory(
                    f"{self._batch_size} pictures do not fit in memory together; pass a smaller "
                    "--batch-size, or --precision bf16"
                ) from None
            raise
        return found


def load(
    footer: Mapping[str, Any], model: str | None = None, generator: str | None = None
) -> ReStyle:
    """The model whose generator the latents are of, on the CPU in float32; see :class:`Painter`."""
    if "model" not in footer or "identity" not in footer:
        raise ConfigError("these latents do not say which model they are of; restyle invert does")
    path = model or footer.get("then") or footer["model"]
    found = load_inverter(path, generator or footer.get("generator"))
    ours = checkpoint_hashes(found)["generator_sha256"]
    theirs = footer["identity"].get("generator_sha256")
    if ours != theirs:
        raise ConfigError(
            f"the generator of {path} is not the one that the latents are of (sha256 {ours[:12]}, the "
            f"run used {str(theirs)[:12]}); pass the checkpoint of the run as --model"
        )
    return found


def shape(latents: Any) -> tuple[int, int]:
    """(n_styles, w_dim) of a latent column's Arrow type.

    Raises:
        ConfigError: it is no column of latents.
    """
    try:
        return latents.list_size, latents.value_type.list_size
    except AttributeError:
        raise ConfigError(f"the column latent is {latents}, not a list of style vectors") from None


def n_fitting(n_pixels: int, n_bytes: int) -> int:
    """Pictures that together take about so many bytes as JPEG, at least one."""
    return max(1, math.floor(n_bytes / (0.3 * n_pixels)))
