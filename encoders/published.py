"""Published ReStyle `.pt` files -> ours. All knowledge of their layout lives here.

Such a file is a dict of `state_dict` (`encoder.*`, `decoder.*`), `opts` (a dict or Namespace) and
`latent_avg` ([n_styles, 512] or [512]); github.com/yuval-alaluf/restyle-encoder writes it.
"""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from encoders.heads import ENCODERS, StyleEncoder, StyleEncoderConfig
from encoders.restyle import Parts
from generators import Generator, checkpoint, rosinality
from generators.checkpoint import CheckpointError

_INPUT_SIZE = (256, 256)


def load(path: str | os.PathLike, generator: Generator | None = None) -> Parts:
    """Read a published encoder strictly.

    Args:
        generator: takes the place of the file's own.

    Raises:
        CheckpointError: unreadable or hostile file, unknown encoder type, or a missing, unexpected
            or misshapen tensor, which is named.
    """
    content = checkpoint.load_pt(path)
    source = str(path)
    encoder_state, decoder_state = split(content, source)
    encoder = _encoder(encoder_type(content, source), encoder_state, source)
    generator = generator or _generator(decoder_state, source)
    latent_avg = content.get("latent_avg")
    if latent_avg is None:
        latent_avg = generator.estimate_latent_avg()
        warnings.warn(
            f"{source} has no latent_avg; computed it from 10,000 samples of seed 0", stacklevel=2
        )
    if not isinstance(latent_avg, Tensor):
        raise CheckpointError(f"{source} has a latent_avg that is not a tensor; get the file again")
    # The training code of ReStyle also saves [1, 512].
    latent_avg = latent_avg[0] if latent_avg.ndim == 2 and len(latent_avg) == 1 else latent_avg
    return Parts(encoder, generator, latent_avg, _INPUT_SIZE)


def split(content: Mapping[str, Any], source: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """`encoder.*` and `decoder.*` tensors without their prefixes."""
    state = content.get("state_dict")
    if not isinstance(state, Mapping):
        hint = "; it is a generator file" if "g_ema" in content else ""
        raise CheckpointError(
            f"{source} has no state_dict, so it is not a ReStyle encoder{hint}; pass the .pt file "
            "that the ReStyle project publishes, or an inverter that this project saved"
        )
    parts: dict[str, dict[str, Tensor]] = {"encoder": {}, "decoder": {}}
    for key, tensor in state.items():
        prefix, _, name = str(key).partition(".")
        if prefix not in parts or not isinstance(tensor, Tensor):
            raise CheckpointError(f"{source} is not a ReStyle encoder: unexpected {key}")
        parts[prefix][name] = tensor
    return parts["encoder"], parts["decoder"]


def encoder_type(content: Mapping[str, Any], source: str) -> str:
    """The published class name of the encoder, one of `heads.ENCODERS`."""
    opts = content.get("opts")
    settings = vars(opts) if isinstance(opts, argparse.Namespace) else opts
    name = settings.get("encoder_type") if isinstance(settings, Mapping) else None
    if name not in ENCODERS:
        found = f"encoder type {name!r}" if name else "no encoder_type in its opts"
        raise CheckpointError(f"{source} has {found}; the types known are {', '.join(ENCODERS)}")
    return name


def _encoder(kind: str, state: Mapping[str, Tensor], source: str) -> StyleEncoder:
    styles = {key.split(".")[1] for key in state if key.startswith("styles.")}
    encoder = StyleEncoder.empty(StyleEncoderConfig(kind, n_styles=len(styles)))
    of_heads = {key.split(".")[0] for key in encoder.heads.state_dict()} | {"styles"}
    for module, wanted in ((encoder.backbone, False), (encoder.heads, True)):
        tensors = {k: v for k, v in state.items() if (k.split(".")[0] in of_heads) == wanted}
        checkpoint.load_strict(module, tensors, source)
    return encoder.eval().requires_grad_(False)


def _generator(state: Mapping[str, Tensor], source: str) -> Generator:
    config, tensors = rosinality.convert(state, source)
    generator = Generator(config)
    checkpoint.load_strict(generator, tensors, source)
    return generator.eval().requires_grad_(False)
