"""What is measured of an inversion, on the device that holds the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from encoders import Inversion, auxiliary, distances, dlib_face, identity
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
        self._dlib: dlib_face.DlibFace | None = None
        if "identity" in run.metrics and run.identity_model is None:
            self._dlib = _dlib_face().to(device)
        self._metrics = [name for name in run.metrics if name in self._distances]

    def measures(self, name: str) -> bool:
        """Whether :meth:`measure` measures a metric; dlib's identity wants chips of the faces."""
        return name in self._metrics

    @property
    def wants_chips(self) -> bool:
        """Whether identity is dlib's, measured by :meth:`identities`."""
        return self._dlib is not None

    def identities(
        self, chips: Sequence[np.ndarray], others: Sequence[Sequence[np.ndarray]]
    ) -> list[list[float]]:
        """Cosines of dlib's descriptors: of each chip with each of its others.

        chips: [150, 150, 3] uint8 each, as `pipeline.faces.chip_aligned` cuts them; others: as many lists.
        """
        if self._dlib is None or not chips:
            return [[] for _ in chips]
        n_others = [len(each) for each in others]
        every = [*chips, *(chip for each in others for chip in each)]
        found = self._dlib.describe(torch.from_numpy(np.stack(every)))
        counts = torch.tensor(n_others, device=found.device)
        first = found[: len(chips)].repeat_interleave(counts, dim=0)
        cosines = dlib_face.similarity(first, found[len(chips) :]).cpu()
        return [part.tolist() for part in cosines.split(n_others)]

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


def _dlib_face() -> dlib_face.DlibFace:
    from pipeline import faces  # dlib, wanted by this metric alone

    try:
        return dlib_face.load_dlib_face(faces.recogniser_path())
    except RuntimeError as error:
        raise ConfigError(f"identity is measured by dlib's network: {error}") from None


def _file(path: str | None, option: str, wanted: str) -> str:
    if path is None:
        raise ConfigError(f"this metric needs --{option}: {wanted}")
    if not Path(path).is_file():
        raise ConfigError(f"no file at {path}; --{option} takes {wanted}")
    return path
