"""What is measured of an inversion, on the device that holds the model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from encoders import Inversion, auxiliary, distances, identity
from generators.checkpoint import tensors_sha256
from pipeline.config import ConfigError, RunConfig

Distance = Callable[[Tensor, Tensor], Tensor]  # [N, 3, h, w] twice -> [N]


class Scorer:
    """The distances that a run asks for; their networks are loaded and checked here."""

    def __init__(self, run: RunConfig, device: str = "cpu") -> None:
        """Raises ConfigError or CheckpointError; a sentence that says which file to get."""
        self._distances: dict[str, Distance] = {
            "mse": distances.mse,
            "psnr": distances.psnr,
            "ms_ssim": distances.ms_ssim,
        }
        self._networks: dict[str, nn.Module] = {}
        self._n_last = {"identity": 1} if run.identity_steps == "last" else {}
        if "lpips" in run.metrics:
            backbone = _file(run.lpips_weights, "lpips-weights", auxiliary.LPIPS_BACKBONE_FILES)
            heads = _file(run.lpips_heads, "lpips-heads", auxiliary.LPIPS_HEAD_FILES)
            lpips = auxiliary.load_lpips(backbone, heads).to(device)
            self._networks["lpips"] = self._distances["lpips"] = lpips
        if "identity" in run.metrics and run.identity_model is not None:
            path = _file(run.identity_model, "identity-model", auxiliary.IDENTITY_FILES)
            network = auxiliary.load_identity(path).to(device)
            self._networks["identity"] = network
            self._distances["identity"] = partial(identity.similarity, network)
        self._wants_identity = "identity" in run.metrics
        self._metrics = [name for name in run.metrics if name in self._distances]

    def measures(self, name: str) -> bool:
        """Whether a metric is measured here; dlib's identity is measured by CPU workers."""
        return name in self._metrics

    @property
    def leaves_identity_to_dlib(self) -> bool:
        """Whether CPU workers are to measure identity."""
        return self._wants_identity and not self.measures("identity")

    def hashes(self) -> dict[str, str]:
        """Identity of the weights that measure, whatever files they came in."""
        return {
            f"{name}_sha256": tensors_sha256(network.state_dict())
            for name, network in self._networks.items()
        }

    @torch.inference_mode()
    def measure(self, result: Inversion) -> list[dict[str, list[float | None]]]:
        """For each image, the values of every metric, one a step; None at steps not asked for."""
        n_steps, n = result.thumbnails.shape[:2]
        found: list[dict[str, list[float | None]]] = [{} for _ in range(n)]
        for name in self._metrics:
            n_last = min(self._n_last.get(name, n_steps), n_steps)
            steps = result.thumbnails[n_steps - n_last :]
            values = torch.stack([self._distances[name](step, result.target) for step in steps])
            for of_image, column in zip(found, values.T.tolist(), strict=True):
                of_image[name] = [None] * (n_steps - n_last) + column
        return found


def _file(path: str | None, option: str, wanted: str) -> str:
    if path is None:
        raise ConfigError(f"this metric needs --{option}: {wanted}")
    if not Path(path).is_file():
        raise ConfigError(f"no file at {path}; --{option} takes {wanted}")
    return path
