"""What an encoder is trained for: a weighted sum of distances between images and norms of latents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial

import torch
from torch import Tensor, nn

from encoders import auxiliary
from encoders.metrics import identity
from encoders.metrics.distances import detail_l1, ms_ssim, mse, multi_scale_l1
from encoders.metrics.perceptual import DiscriminatorDistance
from encoders.training import moco
from generators import StyleBasedGenerator, load_discriminator
from generators.training.config import LOSSES, setting

Measure = Callable[[Tensor, Tensor], Tensor]  # [N, 3, h, w] twice -> [N]

_N_SPREAD = 4096  # samples of the mapping that measure the spread of W


def _weight(default: float, of: str) -> float:
    return setting(default, f"Weight of {of}; 0 leaves it out.", LOSSES)


def _file(content: str) -> str | None:
    return setting(None, content, LOSSES)


@dataclass(frozen=True)
class LossConfig:
    """Weights of the terms, and the files of the networks that some of them need."""

    l2: float = _weight(0.0, "the mean squared error of pixels in [-1, 1]")
    l1: float = _weight(0.0, "absolute differences at four scales and of gradients")
    detail: float = _weight(0.0, "absolute differences where the target is rich in detail")
    ms_ssim: float = _weight(0.0, "1 - MS-SSIM")
    lpips: float = _weight(0.0, "LPIPS")
    vgg: float = _weight(0.0, "the absolute difference of VGG16's relu4_3")
    identity: float = _weight(0.0, "1 - the cosine of face embeddings")
    moco: float = _weight(0.0, "1 - the cosine of MoCo-v2 features")
    features: float = _weight(0.0, "the absolute difference of a discriminator's feature maps")
    w_norm: float = _weight(0.0, "the latents' distance from the average")
    delta_norm: float = _weight(0.0, "the distances of a latent's styles from its first one")
    pull: float = _weight(
        0.0, "the squared distance in W from the mapped z, which each sample must then have"
    )
    adversarial: float = _weight(0.0, "an image discriminator's opinion")
    latent_adversarial: float = _weight(0.0, "a latent discriminator's opinion")

    lpips_weights: str | None = _file("AlexNet or VGG16 of torchvision, for --lpips.")
    lpips_heads: str | None = _file("LPIPS's own file for that network, for --lpips.")
    vgg_weights: str | None = _file("VGG16 of torchvision, for --vgg.")
    identity_model: str | None = _file("ArcFace or CurricularFace, for --identity.")
    moco_weights: str | None = _file("ResNet-50 of MoCo v2, for --moco.")
    discriminator: str | None = _file("Image discriminator, for --features and --adversarial.")


TERMS = tuple(f.name for f in fields(LossConfig) if f.type == "float")


class Objective(nn.Module):
    """The terms with a weight, each averaged over the batch, and their weighted sum.

    Its networks are frozen; gradients go to image and latents. The terms that trained discriminators
    give come from outside, see `forward`.
    """

    latent_avg: Tensor
    spread: Tensor

    def __init__(
        self,
        config: LossConfig,  # weights and files
        generator: StyleBasedGenerator,  # whose W the norms of latents are measured in
    ) -> None:
        """Raises CheckpointError for a file that is missing or of another kind."""
        super().__init__()
        self.weights = {name: getattr(config, name) for name in TERMS if getattr(config, name)}
        self.networks = nn.ModuleDict(
            {name: load(config) for name, load in _LOADERS.items() if name in self.weights}
        )
        measures = _measures(self.networks)
        self.measures = measures  # similarities as such, for validation
        self.distances = {
            name: _from_one(measures[name]) if name in _SIMILARITIES else measures[name]
            for name in self.weights
            if name in measures
        }
        # Copies: the trainer may move this module, but not its generator, to another device.
        self.register_buffer("latent_avg", generator.latent_avg.clone())
        spread = _spread(generator) if "pull" in self.weights else torch.ones(generator.w_dim)
        self.register_buffer("spread", spread)

    def forward(
        self,
        image: Tensor,
        target: Tensor,
        latents: Tensor,
        w: Tensor | None = None,
        judged: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """The single terms, without their weights, and `total`, the sum with them.

        Args:
            image, target: [N, 3, h, w] in [-1, 1], the reconstruction and what is asked for.
            latents: [N, n_styles, w_dim], those of the reconstruction.
            w: [N, w_dim] that the target was drawn from, where that is known; else no `pull`.
            judged: what discriminators said of image and latents, scalars by the names of their terms.
        """
        terms = {name: of(image, target).mean() for name, of in self.distances.items()}
        if "w_norm" in self.weights:
            terms["w_norm"] = w_norm(latents, self.latent_avg)
        if "delta_norm" in self.weights:
            terms["delta_norm"] = delta_norm(latents)
        if "pull" in self.weights and w is not None:
            terms["pull"] = ((latents - w[:, None]) / self.spread).square().mean()
        terms |= judged or {}
        total = sum(
            (self.weights[name] * term for name, term in terms.items()), latents.new_zeros(())
        )
        return {**terms, "total": total}


def w_norm(latents: Tensor, latent_avg: Tensor) -> Tensor:
    """Mean length of what lies between latents [N, n_styles, w_dim] and the average (pSp, L_reg)."""
    return (latents - latent_avg).flatten(1).norm(dim=1).mean()


def delta_norm(latents: Tensor) -> Tensor:
    """Mean over images of the summed lengths of a latent's offsets (e4e, arXiv 2102.02766, L_d-reg).

    Offsets are those of latents [N, n_styles, w_dim] from their first style.
    """
    return (latents[:, 1:] - latents[:, :1]).norm(dim=2).sum(dim=1).mean()


@torch.no_grad()
def _spread(generator: StyleBasedGenerator) -> Tensor:
    """Standard deviation of each entry of w, [w_dim]: the unit of a distance in W."""
    source = torch.Generator().manual_seed(0)
    z = torch.randn(_N_SPREAD, generator.config.z_dim, generator=source)
    labels = generator.mapping.random_labels(_N_SPREAD, source)
    w = generator.mapping(z.to(generator.latent_avg.device), labels=labels)
    return w.std(dim=0).clamp_min(1e-6)


def _lpips(config: LossConfig) -> nn.Module:
    backbone = auxiliary.required(
        config.lpips_weights, "lpips-weights", auxiliary.LPIPS_BACKBONE_FILES
    )
    heads = auxiliary.required(config.lpips_heads, "lpips-heads", auxiliary.LPIPS_HEAD_FILES)
    return auxiliary.load_lpips(backbone, heads)


def _vgg(config: LossConfig) -> nn.Module:
    path = auxiliary.required(config.vgg_weights, "vgg-weights", auxiliary.VGG_FILES)
    return auxiliary.load_vgg_distance(path)


def _identity(config: LossConfig) -> nn.Module:
    path = auxiliary.required(config.identity_model, "identity-model", auxiliary.IDENTITY_FILES)
    return auxiliary.load_identity(path)


def _moco(config: LossConfig) -> nn.Module:
    return moco.load_moco(auxiliary.required(config.moco_weights, "moco-weights", moco.MOCO_FILES))


def _features(config: LossConfig) -> nn.Module:
    path = auxiliary.required(config.discriminator, "discriminator", auxiliary.DISCRIMINATOR_FILES)
    return DiscriminatorDistance(load_discriminator(path))


_LOADERS: dict[str, Callable[[LossConfig], nn.Module]] = {
    "lpips": _lpips,
    "vgg": _vgg,
    "identity": _identity,
    "moco": _moco,
    "features": _features,
}
_SIMILARITIES = (
    "ms_ssim",
    "identity",
    "moco",
)  # 1 for equal images; the term is what is missing to it


def _measures(networks: nn.ModuleDict) -> dict[str, Measure]:
    """Everything that can be measured between two batches of images, by the name of its term."""
    measures: dict[str, Measure] = {"l2": mse, "l1": multi_scale_l1, "detail": detail_l1}
    measures["ms_ssim"] = ms_ssim
    embeddings: dict[str, Callable[..., Tensor]] = {
        "identity": identity.similarity,
        "moco": moco.similarity,
    }
    for name, network in networks.items():
        measures[name] = partial(embeddings[name], network) if name in embeddings else network
    return measures


def _from_one(similarity: Measure) -> Measure:
    return lambda a, b: 1 - similarity(a, b)
