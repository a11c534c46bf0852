"""StyleGAN3 under NVIDIA's names -> ours, and back: pickles, and state dicts in a ``.pt``.

github.com/NVlabs/stylegan3 pickles modules; github.com/yuval-alaluf/stylegan3-editing publishes the state
dict of the same generator, without what is no tensor, for which the published values are assumed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, BinaryIO

import torch
from torch import Tensor

from generators import claims
from generators.files import checkpoint, nvidia_pickle
from generators.files.checkpoint import CheckpointError
from generators.files.nvidia_pickle import Module
from generators.files.pickled import DamagedPickle, RefusedPickle
from generators.files.torchfile import StoredTensor
from generators.stylegan3 import StyleGAN3Generator
from generators.stylegan3_config import N_LAYERS, LayerShape, StyleGAN3Config

_LAYER = re.compile(r"synthesis\.L(\d{1,3})_(\d{1,5})_(\d{1,5})\.weight")
_TRANSFORM = "synthesis.input.transform"
_INPUT = ("weight", "transform", "freqs", "phases", "affine.weight", "affine.bias")
_ANY_LAYER = ("weight", "bias", "magnitude_ema", "affine.weight", "affine.bias")


def is_stylegan3(keys: Any) -> bool:
    """Whether these names of tensors or modules are a StyleGAN3's."""
    return any(str(key).startswith(("synthesis.input", "synthesis.L0_")) for key in keys)


def layer_name(i: int, layer: LayerShape) -> str:
    """What NVIDIA calls a layer."""
    return f"L{i}_{layer.target.size}_{layer.n_out}"


def names(config: StyleGAN3Config) -> dict[str, str]:
    """Their key -> ours, for every tensor."""
    found = {"mapping.w_avg": "mapping.latent_avg"}
    if config.c_dim:
        found |= {f"mapping.embed.{part}": f"mapping.embed.{part}" for part in ("weight", "bias")}
    for i in range(config.n_mapping_layers):
        for part in ("weight", "bias"):
            found[f"mapping.fc{i}.{part}"] = f"mapping.layers.{i}.{part}"
    found |= {f"synthesis.input.{part}": f"synthesis.input.{part}" for part in _INPUT}
    for i, layer in enumerate(config.layers):
        filters = () if layer.is_colours else ("up_filter", "down_filter")
        for part in (*_ANY_LAYER, *filters):
            found[f"synthesis.{layer_name(i, layer)}.{part}"] = f"synthesis.layers.{i}.{part}"
    return found


def config_of(tensors: Mapping[str, Any], **others: Any) -> StyleGAN3Config:
    """The shape of a generator, off the names and shapes of its tensors.

    Args:
        others: what they do not say.

    Raises:
        ValueError, KeyError, IndexError: they are none of a StyleGAN3.
    """
    layers = {}
    for key, tensor in tensors.items():
        if match := _LAYER.fullmatch(str(key)):
            layers[int(match[1])] = int(match[2]), tensor.shape, str(key).removesuffix(".weight")
    if sorted(layers) != list(range(N_LAYERS + 1)):
        raise ValueError(
            f"{len(layers)} layers in its synthesis, where a published StyleGAN3 has {N_LAYERS + 1}"
        )
    resolution, _, _ = layers[N_LAYERS]
    shapes = [layers[i][1] for i in range(N_LAYERS)]
    mapping = [key for key in tensors if re.fullmatch(r"mapping\.fc\d{1,3}\.weight", str(key))]
    w_dim, hidden = tensors["mapping.w_avg"].shape[0], tensors["mapping.fc0.weight"].shape[0]
    embed = tensors.get("mapping.embed.weight")
    n_in = tensors["mapping.fc0.weight"].shape[1]
    return StyleGAN3Config(
        resolution=resolution,
        channels=tuple(shape[0] for shape in shapes),
        kernel=shapes[0][-1],
        radial=len(tensors[f"{layers[0][2]}.down_filter"].shape) == 2,
        z_dim=n_in if embed is None else n_in - w_dim,
        w_dim=w_dim,
        c_dim=0 if embed is None else embed.shape[1],
        n_mapping_layers=len(mapping),
        mapping_width=None if hidden == w_dim else hidden,
        **others,
    )


def describe(
    modules: Mapping[str, Module], tensors: Mapping[str, StoredTensor], file: BinaryIO
) -> StyleGAN3Config:
    """The config of a pickled network; what it says of its layers must be what follows from it.

    Raises:
        RefusedPickle, DamagedPickle, ValueError, KeyError, TypeError: it is another network than ours.
    """
    top = modules[""].state
    clamp = nvidia_pickle.the_same(modules, "SynthesisLayer", "conv_clamp")
    config = config_of(
        tensors,
        mapping_lr_mul=float(modules["mapping.fc0"].state["bias_gain"]),
        conv_clamp=None if clamp is None else float(clamp),
        output_scale=float(modules["synthesis"].state["output_scale"]),
    )
    for name, own in (
        ("img_resolution", config.resolution),
        ("z_dim", config.z_dim),
        ("w_dim", config.w_dim),
        ("c_dim", config.c_dim),
    ):
        if top.get(name) != own:
            raise DamagedPickle(
                f"it says {name} {claims.shown(top.get(name))}, but its tensors {own}"
            )
    _require_input(modules["synthesis.input"].state, config, file)
    for i, layer in enumerate(config.layers):
        name = f"synthesis.{layer_name(i, layer)}"
        _require_layer(name, modules[name].state, layer, file)
    return config


def _require_input(state: Mapping[str, Any], config: StyleGAN3Config, file: BinaryIO) -> None:
    band = config.first_band
    found = [
        state["sampling_rate"],
        state["bandwidth"],
        *nvidia_pickle.numbers(state["size"], file),
    ]
    wanted = [band.rate, band.cutoff, band.size, band.size]
    _require("synthesis.input", "rate, bandwidth and size", found, wanted)


def _require_layer(name: str, state: Mapping[str, Any], layer: LayerShape, file: BinaryIO) -> None:
    """Refuse a layer that another rule than the published one made: its map would have another size."""
    before, behind = layer.padding
    padding = [before, behind, before, behind]
    colours = [bool(state["is_torgb"])]
    _require(name, "colours", colours, [layer.is_colours])
    factors = [state["up_factor"], state["down_factor"]]
    _require(name, "factors", factors, [layer.up, layer.down])
    _require(name, "padding", nvidia_pickle.numbers(state["padding"], file), padding)


def _require(name: str, what: str, found: list[Any], wanted: list[Any]) -> None:
    if any(not isinstance(value, int | float) for value in found) or found != wanted:
        told = ", ".join(claims.shown(value) for value in found)
        raise RefusedPickle(
            f"a StyleGAN3 whose {name} has other {what} than the published networks: {told}, not "
            f"{', '.join(map(str, wanted))}"
        )


def convert(state: Mapping[str, Any], source: str) -> tuple[StyleGAN3Config, dict[str, Tensor]]:
    """A plain state dict under NVIDIA's names -> our config and tensors.

    Raises:
        CheckpointError: names the tensors that are missing or unexpected.
    """
    says = f"{source} is not a StyleGAN3 generator"
    for key, value in state.items():
        if not (isinstance(key, str) and isinstance(value, Tensor)):
            raise CheckpointError(f"{says}: {str(key)[:80]} is not a named tensor")
    try:
        config = config_of(state)
    except KeyError as error:
        raise CheckpointError(f"{says}: no tensor {error}") from None
    except (ValueError, IndexError) as error:
        raise CheckpointError(f"{says}: {error}") from None
    theirs = names(config)
    require_keys(state, theirs, f"{source} is not a complete StyleGAN3 generator")
    tensors = {ours: state[key] for key, ours in theirs.items()}
    transform = state[_TRANSFORM]
    if transform.ndim == 3 and transform.shape[1:] == (3, 3):
        # Of a batch that was drawn last, left over in published encoders: no part of the generator.
        tensors[_TRANSFORM] = torch.eye(3)
    return config, tensors


def require_keys(keys: Any, wanted: Mapping[str, str], says: str) -> None:
    """Raise a CheckpointError that begins with ``says`` unless there are all of these and no others."""
    problems = [f"missing {key}" for key in wanted if key not in keys]
    problems += [f"unexpected {key}" for key in sorted(set(keys) - wanted.keys())]
    if problems:
        raise CheckpointError(f"{says}: {'; '.join(problems[:5])}")


def load_pt(state: Mapping[str, Any], path: str | os.PathLike) -> StyleGAN3Generator:
    """The generator of a plain state dict, as stylegan3-editing publishes it.

    Raises:
        CheckpointError: names the tensors that are missing, unexpected or misshapen.
    """
    config, tensors = convert(state, str(path))
    return checkpoint.restore(lambda: StyleGAN3Generator(config), tensors, str(path))


def export(generator: StyleGAN3Generator) -> dict[str, Tensor]:
    """A generator as such a state dict, bit-equal when run.

    Raises:
        CheckpointError: it differs from what such files leave out; names the differences.
    """
    config = generator.config
    usual = StyleGAN3Config(config.resolution, config.channels)
    reasons = [
        f"its {name} is {getattr(config, name)}, not {getattr(usual, name)}"
        for name in ("conv_clamp", "output_scale", "mapping_lr_mul")
        if getattr(config, name) != getattr(usual, name)
    ]
    if reasons:
        raise CheckpointError(
            f"this generator cannot be a .pt of stylegan3-editing: {'; '.join(reasons)}; keep it as "
            ".safetensors"
        )
    ours = generator.state_dict()
    return {theirs: ours[name].detach().clone() for theirs, name in names(config).items()}
