"""NVIDIA's ``.pkl`` files -> ours. What they call the layers of StyleGAN2 is said here.

github.com/NVlabs/stylegan2-ada-pytorch and github.com/NVlabs/stylegan3, with labels and without; StyleGAN3's
own layers: :mod:`generators.files.nvidia_stylegan3`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from generators import kinds, ops
from generators.files import checkpoint, nvidia_pickle, nvidia_stylegan3
from generators.files.checkpoint import CheckpointError
from generators.files.nvidia_pickle import Module, the_same
from generators.files.pickled import DamagedPickle, RefusedPickle
from generators.files.torchfile import StoredTensor
from generators.kinds import AnyConfig
from generators.style_based import StyleBasedGenerator
from generators.stylegan2 import GeneratorConfig


def _require_known(modules: Mapping[str, Module]) -> None:
    """Refuse, with the reason, what our networks do not compute."""
    top = modules[""].state
    if top.get("img_channels") != 3:
        raise RefusedPickle(f"a network of {top.get('img_channels')} image channels, not 3")
    for name, module in modules.items():
        linear = name.endswith((".affine", ".skip", ".embed"))
        wanted = {"use_noise": True, "activation": "linear" if linear else "lrelu"}
        for attribute, value in wanted.items():
            if module.state.get(attribute, value) != value:
                raise RefusedPickle(f"{name} with {attribute} {module.state[attribute]!r}")


def _config(modules: Mapping[str, Module], tensors: Mapping[str, StoredTensor]) -> GeneratorConfig:
    top, resolution = modules[""].state, modules[""].state["img_resolution"]
    sizes = [4 * 2**i for i in range(int(math.log2(resolution)) - 1)]
    hidden = tensors["mapping.fc0.weight"].shape[0]
    n_mapping = sum(name.startswith("mapping.fc") for name in modules)
    clamp = the_same(modules, "SynthesisLayer", "conv_clamp")
    if clamp != the_same(modules, "ToRGBLayer", "conv_clamp"):
        raise DamagedPickle("conv_clamp differs between convolutions and colours")
    return GeneratorConfig(
        resolution=resolution,
        channels=tuple(tensors[f"synthesis.b{size}.conv1.weight"].shape[0] for size in sizes),
        z_dim=top["z_dim"],
        w_dim=top["w_dim"],
        c_dim=top.get("c_dim") or 0,
        n_mapping_layers=n_mapping,
        mapping_width=None if hidden == top["w_dim"] else hidden,
        mapping_lr_mul=float(modules["mapping.fc0"].state["bias_gain"]),
        conv_clamp=None if clamp is None else float(clamp),
        architecture=the_same(modules, "SynthesisBlock", "architecture"),
    )


def _names(config: GeneratorConfig) -> dict[str, str]:
    """Their key -> ours, for every tensor that has a counterpart."""
    names = {"synthesis.b4.const": "synthesis.const", "mapping.w_avg": "mapping.latent_avg"}
    if config.c_dim:
        names |= {f"mapping.embed.{part}": f"mapping.embed.{part}" for part in ("weight", "bias")}
    for i in range(config.n_mapping_layers):
        for part in ("weight", "bias"):
            names[f"mapping.fc{i}.{part}"] = f"mapping.layers.{i}.{part}"
    layer = ("weight", "bias", "affine.weight", "affine.bias")
    for level in range(config.n_blocks):
        block = f"synthesis.b{4 * 2**level}"
        for k in (1,) if level == 0 else (0, 1):
            ours = f"synthesis.convs.{2 * level - 1 + k}"
            names |= {f"{block}.conv{k}.{part}": f"{ours}.{part}" for part in layer}
            names[f"{block}.conv{k}.noise_strength"] = f"{ours}.noise_strength"
            names[f"{block}.conv{k}.noise_const"] = f"{ours}.noise"
        if level in config.rgb_levels:
            ours = f"synthesis.to_rgbs.{config.rgb_levels.index(level)}"
            names |= {f"{block}.torgb.{part}": f"{ours}.{part}" for part in layer}
        if level and config.architecture == "resnet":
            names[f"{block}.skip.weight"] = f"synthesis.skips.{level - 1}.weight"
    return names


def _require_filter(tensors: Mapping[str, StoredTensor], file: BinaryIO) -> None:
    """The FIR filters are constants of the architecture, built in ours: they must be the same."""
    expected = ops.fir_kernel(torch.float32, torch.device("cpu"))
    for key in tensors:
        if key.endswith("resample_filter"):
            taps = tensors[key]
            if taps.shape != (4, 4) or not torch.allclose(taps.read(file).float(), expected):
                raise RefusedPickle(f"{key} is not the filter [1, 3, 3, 1]")


def describe(path: str | os.PathLike) -> tuple[AnyConfig, dict[str, StoredTensor]]:
    """Config and tensors (under our names, not read yet) of a file's ``G_ema``.

    Raises:
        CheckpointError: the file, or the kind of network, cannot be used; says why.
    """
    network = nvidia_pickle.read_network(path)
    kind = "StyleGAN2"
    try:
        modules = nvidia_pickle.walk(network)
        _require_known(modules)
        theirs = nvidia_pickle.tensors_of(modules)
        config: AnyConfig
        with open(path, "rb") as file:
            if nvidia_stylegan3.is_stylegan3(theirs):
                kind = "StyleGAN3"
                config = nvidia_stylegan3.describe(modules, theirs, file)
            else:
                config = _config(modules, theirs)
                _require_filter(theirs, file)
    except RefusedPickle as error:
        raise CheckpointError(f"{path} cannot be used: it holds {error}") from None
    except (ValueError, KeyError, IndexError, TypeError, OverflowError) as error:
        raise CheckpointError(f"{path} is not a {kind} network of NVIDIA: {error}") from None
    names = (
        _names(config) if isinstance(config, GeneratorConfig) else nvidia_stylegan3.names(config)
    )
    own_keys = {key for key in theirs if not key.endswith("resample_filter")}
    nvidia_stylegan3.require_keys(own_keys, names, f"{path} is not a complete network")
    return config, {ours: theirs[key] for key, ours in names.items()}


def load(path: str | os.PathLike) -> StyleBasedGenerator:
    """``G_ema`` of a file.

    Computes in float32 what the published code computes with ``force_fp32``: ``num_fp16_res`` is a choice
    of speed, made here with ``precision``.

    Raises:
        CheckpointError: the file, or the kind of network, cannot be used; says why.
    """
    config, stored = describe(path)
    if sum(t.n_bytes for t in stored.values()) > Path(path).stat().st_size:
        raise CheckpointError(f"{path} was refused: its tensors are larger than the file")
    tensors: dict[str, Tensor] = {}
    with open(path, "rb") as file:
        for name, tensor in stored.items():
            read = tensor.read(file)
            tensors[name] = read[None] if name.endswith("const") else read
            if name.endswith(".noise"):
                tensors[name] = read[None, None]
    return checkpoint.restore(lambda: kinds.make(config), tensors, str(path))
