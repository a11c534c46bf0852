"""Published ReStyle, pSp and e4e `.pt` files -> ours. All knowledge of their layout lives here.

Such a file is a dict of `state_dict` (`encoder.*`, `decoder.*`), `opts` (a dict or Namespace) and
`latent_avg` ([n_styles, 512], [1, 512] or [512]). Written by github.com/yuval-alaluf/restyle-encoder,
github.com/eladrich/pixel2style2pixel and github.com/omertov/encoder4editing, whose decoder is rosinality's
StyleGAN2, and by github.com/yuval-alaluf/stylegan3-editing, whose decoder has NVIDIA's names.
"""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from encoders.heads import CHANNELS
from encoders.restyle import Parts
from encoders.style_encoder import (
    ENCODERS,
    RESTYLE,
    SINGLE_PASS,
    StyleEncoder,
    StyleEncoderConfig,
)
from encoders.view import CARS, EVERYTHING, View
from generators import StyleBasedGenerator, claims, kinds
from generators.files import checkpoint, nvidia_stylegan3, rosinality
from generators.files.checkpoint import CheckpointError
from generators.kinds import AnyConfig
from generators.stylegan3_config import StyleGAN3Config

# The first convolution of either backbone; its input channels tell ReStyle from pSp and e4e.
_FIRST_LAYERS = ("input_layer.0.weight", "conv1.weight")
_E4E_TYPES = ("Encoder4Editing", "SingleStyleCodeEncoder")
_CAR_RESOLUTION = 512
_USUAL_STEPS, _USUAL_STEPS_STYLEGAN3 = 5, 3
_MAX_DIGITS = 9  # of the number of a style
_MAX_STEPS = 1000  # more than anybody trained for
_FFHQ_STYLES = 18  # that the first pSp and e4e encoders predict, whatever the generator


@dataclass(frozen=True)
class Description:
    """What a published file says of itself, in its settings and its tensors' shapes."""

    encoder: StyleEncoderConfig
    generator: AnyConfig
    input_size: tuple[int, int]  # height and width that the encoder sees
    view: View  # the part of a generated image that is the picture
    from_average: bool  # latent_avg is added to what the encoder predicts
    n_steps: int  # passes it was trained for
    dataset: str  # what its settings call the pictures that it learned from, "" for nothing

    @property
    def project(self) -> str:
        """ReStyle, pSp or e4e."""
        if self.encoder.in_channels == RESTYLE:
            return "ReStyle"
        return "e4e" if self.encoder.type in _E4E_TYPES else "pSp"


def load(path: str | os.PathLike, generator: StyleBasedGenerator | None = None) -> Parts:
    """Read a published encoder strictly.

    Args:
        generator: takes the place of the file's own.

    Raises:
        CheckpointError: unreadable or hostile file, unknown encoder type, or a missing, unexpected
            or misshapen tensor, which is named.
    """
    return from_content(checkpoint.load_pt(path), str(path), generator)


def from_content(
    content: Mapping[str, Any], source: str, generator: StyleBasedGenerator | None = None
) -> Parts:
    """`load` for what such a file holds; `source` names it in errors."""
    encoder_state, decoder_state = split(content, source)
    description = describe(content, source)
    encoder = _encoder(description.encoder, encoder_state, source)
    generator = generator or _generator(decoder_state, source)
    latent_avg = _latent_avg(content, description, generator, source)
    return Parts(encoder, generator, latent_avg, description.input_size, description.view)


def split(content: Mapping[str, Any], source: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """`encoder.*` and `decoder.*` tensors without their prefixes."""
    state = content.get("state_dict")
    if not isinstance(state, Mapping):
        hint = "; it is a generator file" if "g_ema" in content else ""
        raise CheckpointError(
            f"{source} has no state_dict, so it is not a ReStyle, pSp or e4e encoder{hint}; pass the "
            ".pt file that those projects publish, or an inverter that this project saved"
        )
    parts: dict[str, dict[str, Tensor]] = {"encoder": {}, "decoder": {}}
    for key, tensor in state.items():
        prefix, _, name = str(key).partition(".")
        if prefix not in parts or not isinstance(tensor, Tensor):
            raise CheckpointError(f"{source} is not a ReStyle encoder: unexpected {key}")
        parts[prefix][name] = tensor
    return parts["encoder"], parts["decoder"]


def describe(content: Mapping[str, Any], source: str) -> Description:
    """Read everything off a file's settings and shapes; no network is built.

    Raises:
        CheckpointError: unknown encoder type, or one that takes no photos.
    """
    opts = content.get("opts")
    settings = vars(opts) if isinstance(opts, argparse.Namespace) else opts
    if not isinstance(settings, Mapping):
        settings = {}
    kind, trained_for = settings.get("encoder_type"), settings.get("n_iters_per_batch")
    if not isinstance(kind, str) or kind not in ENCODERS:
        content_type = (
            f"encoder type {claims.shown(kind)}" if kind else "no encoder_type in its opts"
        )
        raise CheckpointError(
            f"{source} has {content_type}; the known types are {', '.join(ENCODERS)}"
        )
    encoder_state, decoder_state = split(content, source)
    generator, _ = _decoder(decoder_state, source)
    channels = _channels(kind, encoder_state, source)
    # Single-pass models come with a flag; ReStyle's loop starts at the average in any case.
    from_average = channels == RESTYLE or bool(settings.get("start_from_latent_avg", True))
    dataset = settings.get("dataset_type")
    is_cars = (
        isinstance(dataset, str) and "cars" in dataset and generator.resolution == _CAR_RESOLUTION
    )
    is_stylegan3 = isinstance(generator, StyleGAN3Config)
    n_steps = _USUAL_STEPS_STYLEGAN3 if is_stylegan3 else _USUAL_STEPS
    if isinstance(trained_for, int) and 1 <= trained_for <= _MAX_STEPS:
        n_steps = trained_for
    try:
        config = StyleEncoderConfig(kind, _n_styles(encoder_state, generator), channels)
    except ValueError as error:
        raise CheckpointError(f"{source} is no encoder that can be: {error}") from None
    return Description(
        encoder=config,
        generator=generator,
        input_size=(192, 256) if is_cars else (256, 256),
        view=CARS if is_cars else EVERYTHING,
        from_average=from_average,
        n_steps=n_steps if channels == RESTYLE else 1,
        dataset=dataset if isinstance(dataset, str) else "",
    )


def _channels(kind: str, state: Mapping[str, Tensor], source: str) -> int:
    """Input channels of the encoder: names overlap between pSp and ReStyle, shapes do not."""
    allowed = ENCODERS[kind].in_channels
    kernels = [state[name] for name in _FIRST_LAYERS if name in state]
    n_channels = kernels[0].shape[1] if kernels and kernels[0].ndim == 4 else allowed[0]
    if n_channels not in (RESTYLE, SINGLE_PASS):
        raise CheckpointError(
            f"{source} takes pictures with {n_channels} channels (label maps or sketches), not photos, "
            f"which have {SINGLE_PASS}; pass an encoder for photos"
        )
    return n_channels if n_channels in allowed else allowed[0]  # loading names the misshapen tensor


def _n_styles(state: Mapping[str, Tensor], generator: AnyConfig) -> int:
    """Styles that the encoder predicts: its heads, or the outputs of its one linear layer."""
    n = len({_head(key) for key in state} - {None})
    linear = state.get("linear.weight")
    if n == 0 and linear is not None and linear.ndim == 2 and linear.numel():
        n = len(linear) // CHANNELS
    if n <= 1:  # one w serves all styles
        return generator.n_styles
    return min(n, generator.n_styles) if n == _FFHQ_STYLES else n


def _head(key: str) -> int | None:
    """Number of the style whose head a tensor belongs to."""
    group, _, rest = key.partition(".")
    number = rest.partition(".")[0]
    is_number = number.isdecimal() and len(number) <= _MAX_DIGITS
    return int(number) if group == "styles" and is_number else None


def _without_surplus(state: Mapping[str, Tensor], n_styles: int) -> dict[str, Tensor]:
    """Without what the first encoders predict beyond the styles of their generator (e4e of cars)."""
    surplus = range(n_styles, _FFHQ_STYLES)
    kept = {key: tensor for key, tensor in state.items() if _head(key) not in surplus}
    for name in ("linear.weight", "linear.bias"):
        if name in kept and kept[name].shape[:1] == (_FFHQ_STYLES * CHANNELS,):
            kept[name] = kept[name][: n_styles * CHANNELS]
    return kept


def _encoder(config: StyleEncoderConfig, state: Mapping[str, Tensor], source: str) -> StyleEncoder:
    encoder = checkpoint.unfilled(lambda: StyleEncoder(config), len(state), source)
    state = _without_surplus(state, config.n_styles)
    of_heads = {key.split(".")[0] for key in encoder.heads.state_dict()}
    for module, wanted in ((encoder.backbone, False), (encoder.heads, True)):
        tensors = {k: v for k, v in state.items() if (k.split(".")[0] in of_heads) == wanted}
        checkpoint.load_strict(module, tensors, source)
    return encoder.eval().requires_grad_(False)


def _decoder(state: Mapping[str, Tensor], source: str) -> tuple[AnyConfig, dict[str, Tensor]]:
    """The generator's config and our names of its tensors, from what is below `decoder.`."""
    if nvidia_stylegan3.is_stylegan3(state):
        return nvidia_stylegan3.convert(state, source)
    return rosinality.convert(state, source)


def _generator(state: Mapping[str, Tensor], source: str) -> StyleBasedGenerator:
    config, tensors = _decoder(state, source)
    return checkpoint.restore(lambda: kinds.make(config), tensors, source)


def _latent_avg(
    content: Mapping[str, Any],
    description: Description,
    generator: StyleBasedGenerator,
    source: str,
) -> Tensor:
    """What the first prediction is added to, [n_styles, 512] or [512]."""
    if not description.from_average:
        return torch.zeros(generator.w_dim)
    average = content.get("latent_avg")
    if average is None and isinstance(description.generator, StyleGAN3Config):
        return generator.latent_avg  # which such a file calls mapping.w_avg, and has in any case
    if average is None:
        warnings.warn(
            f"{source} has no latent_avg; computed it from 10,000 samples of seed 0", stacklevel=3
        )
        return generator.estimate_latent_avg()
    if not isinstance(average, Tensor):
        raise CheckpointError(f"{source} has a latent_avg that is not a tensor; get the file again")
    # Trained in W, and by some versions of the training code, it is [1, 512].
    if average.ndim == 2:
        return average[0] if len(average) == 1 else average[: generator.n_styles]
    return average
