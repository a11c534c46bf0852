"""What is measured of an inversion, on the device that holds the model."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from encoders import Inversion, auxiliary
from encoders.metrics import distances, dlib_face, identity
from encoders.refinement import Objectives
from generators.files.checkpoint import tensors_sha256
from generators.precision import float32_products
from pipeline.config import RunConfig
from pipeline.errors import ConfigError

WORSE = 1.05  # times the least mse: a row whose kept step lies above it got worse
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
        # Measured at the step alone that is kept.
        self._at_kept = {"identity"} if run.identity_steps == "last" else set[str]()
        self._keeps_best = run.latents == "best"
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
        """dlib's identity of faces and their reconstructions, [N] float64; on the device.

        chips: [N, 2, 150, 150, 3] uint8, the face's first, as `pipeline.faces.detection` cuts them.
        """
        assert self._dlib is not None, "this run does not measure identity with dlib"
        descriptors = self._dlib.describe(chips.flatten(0, 1)).view(len(chips), 2, -1)
        return dlib_face.similarity(descriptors[:, 0], descriptors[:, 1])

    def objectives(self, run: RunConfig) -> Objectives:
        """What a refinement makes small."""
        added: list[tuple[float, Distance]] = []
        if run.refine_lpips:
            added.append((run.refine_lpips, self._distances["lpips"]))
        if run.refine_identity:
            alike = self._distances["identity"]
            added.append((run.refine_identity, lambda a, b: 1 - alike(a, b)))
        return Objectives(run.refine_near, tuple(added))

    def hashes(self) -> dict[str, str]:
        """Identity of the weights that measure, whatever files they came in."""
        return {
            f"{name}_sha256": tensors_sha256(network.state_dict())
            for name, network in self._networks.items()
        }

    @torch.inference_mode()
    def measure(self, result: Inversion) -> tuple[Tensor, Tensor]:
        """Every metric of every step of every image, and the step that is kept; on the device.

        Nothing is waited for. Reconstructions are clamped to [-1, 1] first, as what is saved is.

        Returns:
            [n_metrics, n_steps, N], NaN at steps that were not asked for; [N] int64, from 1.
        """
        n_steps, n = result.thumbnails.shape[:2]
        thumbnails = result.thumbnails.clamp(-1, 1)
        values = thumbnails.new_full((len(self._metrics), n_steps, n), torch.nan)
        kept = torch.full((n,), n_steps, device=thumbnails.device)
        if result.n_taken is not None:
            kept = result.n_taken
        with float32_products():
            # mse is the first of them, so that the step that is kept is known to the others.
            for of_metric, name in zip(values, self._metrics, strict=True):
                distance = self._distances[name]
                if name in self._at_kept:
                    chosen = (kept - 1, torch.arange(n, device=kept.device))
                    of_metric[chosen] = distance(thumbnails[chosen], result.target)
                    continue
                together = thumbnails.is_cuda and name not in self._networks
                of_metric[:] = _by_step(distance, thumbnails, result.target, together)
                if name == "mse" and self._keeps_best:
                    kept = distances.best_steps(of_metric)
        return values, kept

    def best(self, values: np.ndarray, kept: np.ndarray) -> list[tuple[int | None, bool]]:
        """Of each image its best step (from 1), and whether the one that is kept is clearly worse."""
        if "mse" not in self._metrics:
            return [(None, False)] * values.shape[2]
        mse = values[self._metrics.index("mse")].astype(np.float64)
        is_worse = mse[kept - 1, np.arange(len(kept))] > WORSE * mse.min(axis=0)
        return list(zip((mse.argmin(axis=0) + 1).tolist(), is_worse.tolist(), strict=True))

    def by_image(self, values: np.ndarray, kept: np.ndarray) -> list[dict[str, list[float | None]]]:
        """What `measure` found, once it is here: for each image, the values of every metric, one per step.

        Up to the step that is kept; None at steps that were not asked for.
        """
        scores: list[dict[str, list[float | None]]] = []
        for n_kept, of_image in zip(kept.tolist(), values.transpose(2, 0, 1).tolist(), strict=True):
            named: dict[str, list[float | None]] = {}
            for name, of_metric in zip(self._metrics, of_image, strict=True):
                n_left_out = n_kept - 1 if name in self._at_kept else 0
                named[name] = [None] * n_left_out + of_metric[n_left_out:n_kept]
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
    if not os.path.isfile(path):
        raise ConfigError(f"no file at {path}; --{option} takes {wanted}")
    return path
