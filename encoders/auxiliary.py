"""Published files of networks that measure, read strictly: LPIPS, VGG16, identity, e4e's discriminator."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor, nn

from encoders.backbones import IR50_STAGES, IR101_STAGES
from encoders.metrics.identity import FaceEmbedding
from encoders.metrics.perceptual import LPIPS, Backbone, VGGDistance
from encoders.training.latent_discriminator import LatentDiscriminator
from generators.files import checkpoint
from generators.files.checkpoint import CheckpointError

M = TypeVar("M", bound=nn.Module)

# Where each file comes from, for the error that says which one to get.
IDENTITY_FILES = (
    "model_ir_se50.pth (ArcFace IR-SE50, linked from the README of eladrich/pixel2style2pixel) or "
    "CurricularFace_Backbone.pth (IR-101, linked there too)"
)
LPIPS_BACKBONE_FILES = (
    "torchvision's alexnet-owt-7be5be79.pth or vgg16-397923af.pth (download.pytorch.org/models)"
)
LPIPS_HEAD_FILES = (
    "the file of the same network, alex.pth or vgg.pth, in richzhang/PerceptualSimilarity "
    "(lpips/weights/v0.1)"
)
VGG_FILES = "torchvision's vgg16-397923af.pth (download.pytorch.org/models)"
DISCRIMINATOR_FILES = (
    "the discriminator of a StyleGAN2: what `restyle train generator` wrote beside its generator, or the "
    ".pt of rosinality's training, which holds one as `d`"
)
_FIRST_KERNEL = {11: "alex", 3: "vgg"}  # by the size of the first convolution


@dataclass(frozen=True)
class Use:
    """What a file of these is good for."""

    kind: str
    needs: str  # what else, and where it is passed


def use_of(content: Mapping[str, Any]) -> Use | None:
    """What a file's content is, by its names and shapes; None for none of these networks."""
    first, last = content.get("features.0.weight"), content.get("output_layer.3.weight")
    if isinstance(first, Tensor) and first.ndim == 4 and first.shape[-1] in _FIRST_KERNEL:
        name = {"alex": "AlexNet", "vgg": "VGG16"}[_FIRST_KERNEL[first.shape[-1]]]
        return Use(
            f"classifier (torchvision {name})",
            f"as --lpips-weights: --lpips-heads, {LPIPS_HEAD_FILES}",
        )
    if "lin0.model.1.weight" in content:
        return Use("LPIPS heads", f"as --lpips-heads: --lpips-weights, {LPIPS_BACKBONE_FILES}")
    if last is not None and "input_layer.0.weight" in content:
        depth = len({key.split(".")[1] for key in content if key.startswith("body.")})
        name = {24: "50", 49: "101"}.get(depth, f"of {depth} blocks")
        attention = "-SE" if "body.0.res_layer.5.fc1.weight" in content else ""
        return Use(f"face embedding (IR{attention} {name})", "nothing else, as --identity-model")
    if "mlp.0.weight" in content.get("discriminator_state_dict", content):
        return Use("latent discriminator (e4e)", "nothing else; it is used in training")
    return None


def load_identity(path: str | os.PathLike) -> FaceEmbedding:
    """A frozen face embedding: ArcFace IR-SE50, CurricularFace IR-101, or another of that family.

    Raises:
        CheckpointError: another kind of file, or one whose tensors do not fit; they are named.
    """
    state = tensors_of(path)
    n_blocks = len({key.split(".")[1] for key in state if key.startswith("body.")})
    depths = {sum(n for n, _ in stages): stages for stages in (IR50_STAGES, IR101_STAGES)}
    if n_blocks not in depths or "output_layer.3.weight" not in state:
        raise CheckpointError(
            f"{path} is not a face embedding of {' or '.join(map(str, depths))} blocks; pass "
            f"{IDENTITY_FILES}"
        )
    attention = "body.0.res_layer.5.fc1.weight" in state
    affine = "output_layer.4.weight" in state
    return checkpoint.restore(
        lambda: FaceEmbedding(depths[n_blocks], attention, affine), state, str(path)
    )


def load_lpips(backbone: str | os.PathLike, heads: str | os.PathLike) -> LPIPS:
    """A frozen LPIPS, of AlexNet or VGG16 as the backbone's file says.

    Raises:
        CheckpointError: files of another kind, or that do not fit each other.
    """
    features = _features(backbone)
    network = LPIPS(_kind(features, backbone))
    _loaded(network.backbone, features, backbone)
    _loaded(network.heads, tensors_of(heads), heads)
    return network.eval().requires_grad_(False)


def load_vgg_distance(path: str | os.PathLike) -> VGGDistance:
    """A frozen VGG16 relu4_3 distance from torchvision's vgg16 file.

    Raises:
        CheckpointError: another kind of file, or one whose tensors do not fit; they are named.
    """
    network = VGGDistance()
    _loaded(network.backbone, _features(path), path)
    return network.eval().requires_grad_(False)


def load_latent_discriminator(path: str | os.PathLike) -> LatentDiscriminator:
    """e4e's discriminator, from a file of its tensors or from a training checkpoint that holds them.

    Raises:
        CheckpointError: another kind of file, or one whose tensors do not fit; they are named.
    """
    content = checkpoint.load_pt(path)
    state = _tensors(content.get("discriminator_state_dict", content), path)
    weight = state.get("mlp.0.weight")
    if weight is None or weight.ndim != 2:
        raise CheckpointError(
            f"{path} does not hold a latent discriminator (no tensor mlp.0.weight)"
        )
    n_layers = sum(key.endswith(".weight") for key in state)
    return _loaded(LatentDiscriminator(weight.shape[1], n_layers), state, path)


def required(path: str | None, option: str, wanted: str) -> str:
    """The path of a file that a setting of training names.

    Args:
        option: where it is passed, as on the command line.
        wanted: which file it takes.

    Raises:
        CheckpointError: not given, or not there.
    """
    if path is None:
        raise CheckpointError(f"this training needs --{option}: {wanted}")
    if not os.path.isfile(path):
        raise CheckpointError(f"no file at {path}; --{option} takes {wanted}")
    return path


def tensors_of(path: str | os.PathLike) -> dict[str, Tensor]:
    """The named tensors of a plain state dict; CheckpointError for any other file."""
    return _tensors(checkpoint.load_pt(path), path)


def _tensors(content: Any, path: str | os.PathLike) -> dict[str, Tensor]:
    if not isinstance(content, Mapping) or not all(isinstance(t, Tensor) for t in content.values()):
        raise CheckpointError(f"{path} is not a plain state dict, a table of named tensors")
    return {str(name): tensor for name, tensor in content.items()}


def _features(path: str | os.PathLike) -> dict[str, Tensor]:
    """The convolutions of a torchvision classifier, whose fully connected layers nobody needs."""
    return {name: t for name, t in tensors_of(path).items() if not name.startswith("classifier.")}


def _kind(features: Mapping[str, Tensor], path: str | os.PathLike) -> Backbone:
    first = features.get("features.0.weight")
    kind = _FIRST_KERNEL.get(first.shape[-1]) if first is not None and first.ndim == 4 else None
    if kind is None:
        raise CheckpointError(f"{path} is not an LPIPS backbone; pass {LPIPS_BACKBONE_FILES}")
    return "alex" if kind == "alex" else "vgg"


def _loaded(network: M, state: Mapping[str, Tensor], path: str | os.PathLike) -> M:
    checkpoint.load_strict(network, state, str(path))
    return network.eval().requires_grad_(False)
