"""The model that a training begins with: the encoder asked for, with published weights or random ones."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from encoders import auxiliary
from encoders import bound as bounds
from encoders.backbones import RESNET34_STAGES, IRBackbone, ResNet34
from encoders.bound import Bound
from encoders.heads import CHANNELS, ProgressiveHeads, ProgressivePyramid
from encoders.inverter_file import load_encoder
from encoders.restyle import ReStyle, SinglePass
from encoders.style_encoder import (
    ENCODERS,
    RESTYLE,
    SINGLE_PASS,
    StyleEncoder,
    StyleEncoderConfig,
)
from encoders.training.config import RANDOM, UNET, EncoderTrainConfig
from encoders.unet import UNet, UNetConfig
from encoders.view import View
from generators import CheckpointError, StyleBasedGenerator
from generators.files import checkpoint

ARCFACE_FILES = (
    "model_ir_se50.pth (ArcFace IR-SE50, linked from the README of eladrich/pixel2style2pixel)"
)
RESNET34_FILES = "torchvision's resnet34-333f7ec4.pth or resnet34-b627a593.pth"
_N_COLOURS = 3


def new_model(config: EncoderTrainConfig, generator: StyleBasedGenerator) -> ReStyle:
    """An encoder to train, with a copy of the generator, which is frozen.

    The same weights for the same seed; torch's own random numbers are left as they were.

    Raises:
        CheckpointError: a file is missing or of another kind.
        ValueError: settings that do not fit the generator or each other.
    """
    if config.pull and generator.c_dim:
        raise ValueError(
            "pull compares with the style vector of an image's own z, which the generator makes of z and a "
            "class; leave out --pull for a generator that draws by class"
        )
    view = View(config.view_rows or None, config.view_columns or None)  # type: ignore[arg-type]
    size = input_size(view, generator.resolution, config.input_side)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        encoder, kept = _encoder(config, generator, size)
    if isinstance(encoder, UNet) and size != (encoder.config.resolution,) * 2:
        raise ValueError(
            f"the U-Net of {config.start_from} sees {encoder.config.resolution} px, but the picture "
            f"makes {size[1]}x{size[0]}"
        )
    if config.progressive_start and not isinstance(
        getattr(encoder, "heads", None), ProgressiveHeads | ProgressivePyramid
    ):
        raise ValueError(
            "progressive_start adds styles one by one, for which the encoder must be "
            "ProgressiveBackboneEncoder, ResNetProgressiveBackboneEncoder or Encoder4Editing"
        )
    kind = ReStyle if encoder.config.in_channels == RESTYLE else SinglePass
    if (kind is SinglePass) != config.single_pass:
        raise ValueError(
            f"{config.start_from} holds an encoder with {encoder.config.in_channels} input channels, "
            f"which does not go with single_pass = {config.single_pass}"
        )
    frozen = copy.deepcopy(generator).eval().requires_grad_(False)
    encoder.requires_grad_(True)
    bound = bounds.chosen(kept, config.bound, frozen)
    if bound is not None:
        bound.is_kept = True
    return kind(encoder, frozen, generator.latent_avg, size, view=view, bound=bound)


def input_size(view: View, resolution: int, most: int) -> tuple[int, int]:
    """Height and width that the encoder sees: the picture's, halved until neither is more than `most`."""
    height, width = view.size(resolution)
    while max(height, width) > most:
        height, width = height // 2, width // 2
    return height, width


def _encoder(
    config: EncoderTrainConfig, generator: StyleBasedGenerator, size: tuple[int, int]
) -> tuple[UNet | StyleEncoder, Bound | None]:
    """The encoder to begin with, and the bound that its file has."""
    if config.start_from is not None:
        return load_encoder(config.start_from, generator)
    in_channels = SINGLE_PASS if config.single_pass else RESTYLE
    if config.encoder == UNET:
        if size[0] != size[1]:
            raise ValueError(
                f"the U-Net sees square pictures, not {size[1]}x{size[0]}; pass a published encoder"
            )
        shape = size[0], generator.n_styles, generator.w_dim, in_channels
        return UNet(UNetConfig(*shape, widths=config.widths, n_levels=config.n_levels)), None
    if in_channels not in ENCODERS[config.encoder].in_channels:
        other = "without" if config.single_pass else "with"
        raise ValueError(f"{config.encoder} is trained {other} single_pass")
    if generator.w_dim != CHANNELS:
        raise ValueError(
            f"{config.encoder} predicts style vectors of {CHANNELS}, but the generator takes "
            f"{generator.w_dim}; pass `unet` as the encoder"
        )
    path = config.backbone_weights
    if path != RANDOM:
        is_face = ENCODERS[config.encoder].backbone is IRBackbone
        wanted = ARCFACE_FILES if is_face else RESNET34_FILES
        says = f"{wanted}; or `{RANDOM}` to start without"
        path = auxiliary.required(path, "backbone-weights", says)
    encoder = StyleEncoder(StyleEncoderConfig(config.encoder, generator.n_styles, in_channels))
    if path != RANDOM:
        _initialise(encoder.backbone, path)
    return encoder, None


def _initialise(backbone: IRBackbone | ResNet34, path: str) -> None:
    if isinstance(backbone, IRBackbone):
        initialise_ir_se50(backbone, path)
    else:
        initialise_resnet34(backbone, path)


def initialise_ir_se50(backbone: IRBackbone, path: str | os.PathLike) -> None:
    """Give it the weights of ArcFace's file, the input channels beyond colours random ones.

    Raises:
        CheckpointError: another kind of file, or one whose tensors do not fit; they are named.
    """
    state = {
        name: t for name, t in auxiliary.tensors_of(path).items() if "output_layer" not in name
    }
    if "input_layer.0.weight" not in state:
        raise CheckpointError(f"{path} is not a face embedding; pass {ARCFACE_FILES}")
    _load(backbone, state, "input_layer.0.weight", path)


def initialise_resnet34(backbone: ResNet34, path: str | os.PathLike) -> None:
    """Give it the weights of torchvision's file, the input channels beyond colours random ones.

    The PReLU of the stem, which ResNet-34 does not have, stays as it is.

    Raises:
        CheckpointError: another kind of file, or one whose tensors do not fit; they are named.
    """
    first = {}  # number of each stage's first block, where torchvision begins to count anew
    n = 0
    for stage, (n_blocks, _) in enumerate(RESNET34_STAGES, start=1):
        first[f"layer{stage}"] = n
        n += n_blocks
    state = {f"relu.{name}": t for name, t in backbone.relu.state_dict().items()}
    for name, tensor in auxiliary.tensors_of(path).items():
        layer, _, rest = name.partition(".")
        block, _, part = rest.partition(".")
        if layer in first and block.isdigit():
            state[f"body.{first[layer] + int(block)}.{part}"] = tensor
        elif layer != "fc":
            state[name] = tensor
    if "conv1.weight" not in state:
        raise CheckpointError(f"{path} is not a ResNet-34; pass {RESNET34_FILES}")
    _load(backbone, state, "conv1.weight", path)


def _load(
    backbone: nn.Module, state: Mapping[str, Tensor], first: str, path: str | os.PathLike
) -> None:
    """Strictly, with the first convolution's weight widened to the backbone's input channels."""
    own = backbone.state_dict()
    # Published files may lack the counters of their normalisations, which nothing here reads.
    counters = {name: t for name, t in own.items() if name.endswith("num_batches_tracked")}
    wide = torch.randn_like(own[first])  # as published: unit variance
    kernel = state[first]
    if kernel.shape[:2] + kernel.shape[2:] != (wide.shape[0], _N_COLOURS, *wide.shape[2:]):
        raise CheckpointError(
            f"{path} does not fit: {first} has shape {list(kernel.shape)}, needs "
            f"{[wide.shape[0], _N_COLOURS, *wide.shape[2:]]}"
        )
    wide[:, :_N_COLOURS] = kernel
    checkpoint.load_strict(backbone, {**counters, **state, first: wide}, str(path))
