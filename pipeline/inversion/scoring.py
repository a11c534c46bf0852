"""What is measured of an inversion, on the device that holds the model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from encoders import Inversion, auxiliary
from encoders.metrics import distances, dlib_face, identity
from generators.files.checkpoint import tensors_sha256
from generators.precision import float32_products
from pipeline.config import RunConfig
from pipeline.errors import ConfigError

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

    @torch.inference_mode()
    def identities(self, chips: Tensor) -> Tensor:
        """Cosines of dlib's descriptors, of each face with its reconstructions; on the device.

        chips: [N, 1 + n_steps, 150, 150, 3] uint8, the face's first, as `pipeline.faces.detection` cuts them.
        Returns [N, n_steps] float64.
        """
        assert self._dlib is not None, "this run does not measure identity with dlib"
        n, n_steps = len(chips), chips.shape[1] - 1
        descriptors = self._dlib.describe(chips.flatten(0, 1)).view(n, 1 + n_steps, -1)
        face, others = descriptors[:, :1].expand(-1, n_steps, -1), descriptors[:, 1:]
        return dlib_face.similarity(face.flatten(0, 1), others.flatten(0, 1)).view(n, n_steps)

    def hashes(self) -> dict[str, str]:
        """Identity of the weights that measure, whatever files they came in."""
        return {
            f"{name}_sha256": tensors_sha256(network.state_dict())
            for name, network in self._networks.items()
        }

    @torch.inference_mode()
    def measure(self, result: Inversion) -> Tensor:
        """Every metric of every step of every image, [n_metrics, n_steps, N], on the device.

        Nothing is waited for. NaN at steps that were not asked for.
        """
        n_steps, n = result.thumbnails.shape[:2]
        values = result.thumbnails.new_full((len(self._metrics), n_steps, n), torch.nan)
        with float32_products():
            for of_metric, name in zip(values, self._metrics, strict=True):
                first = n_steps - self._n_measured(name, n_steps)
                steps = result.thumbnails[first:]
                together = steps.is_cuda and name not in self._networks
                of_metric[first:] = _by_step(self._distances[name], steps, result.target, together)
        return values

    def _n_measured(self, name: str, n_steps: int) -> int:
        """Of the last steps, how many a metric is measured at."""
        return min(self._n_last.get(name, n_steps), n_steps)

    def by_image(self, values: np.ndarray) -> list[dict[str, list[float | None]]]:
        """What `measure` found, once it is here: for each image, the values of every metric, one a step.

        None at steps that were not asked for.
        """
        n_steps = values.shape[1]
        scores: list[dict[str, list[float | None]]] = []
        for of_image in values.transpose(2, 0, 1).tolist():
            named = dict(zip(self._metrics, of_image, strict=True))
            for name, of_metric in named.items():
                n_left_out = n_steps - self._n_measured(name, n_steps)
                of_metric[:n_left_out] = [None] * n_left_out
            scores.append(named)
        return scores


def _by_step(distance: Distance, steps: Tensor, target: Tensor, together: bool) -> Tensor:
    """Distances [n_steps, N] of images [n_steps, N, 3, h, w] from their target [N, 3, h, w].

    together: as one batch, which saves a GPU five times the small kernels. A CPU gains nothing, and
    another batch adds in another order.
    """
    if together:
        return distance(steps.flatten(0, 1), target.expand_as(steps).flatten(0, 1)).view(
            steps.shape[:2]
        )
    return torch.stack([distance(step, target) for step in steps])


def _dlib_face() -> dlib_face.DlibFace:
    from pipeline.faces import detection

    try:
        return dlib_face.load_dlib_face(detection.recogniser_path())
    except RuntimeError as error:
        raise ConfigError(f"identity is measured by dlib's network: {error}") from None


def _file(path: str | None, option: str, wanted: str) -> str:
    if path is None:
        raise ConfigError(f"this metric needs --{option}: {wanted}")
    if not Path(path).is_file():
        raise ConfigError(f"no file at {path}; --{option} takes {wanted}")
    return path
