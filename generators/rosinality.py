"""Rosinality's StyleGAN2 ``.pt`` files -> ours. All knowledge of their key names lives here."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from generators import checkpoint
from generators.checkpoint import CheckpointError
from generators.stylegan2 import Generator, GeneratorConfig


def _config(state: Mapping[str, Tensor], source: str) -> GeneratorConfig:
    """Read the shape of the generator off its tensors."""
    try:
        n_mapping = sum(key.startswith("style.") and key.endswith(".weight") for key in state)
        n_blocks = 1 + sum(
            key.startswith("to_rgbs.") and key.endswith(".conv.weight") for key in state
        )
        channels = [state["conv1.conv.weight"].shape[1]]
        channels += [state[f"convs.{2 * b}.conv.weight"].shape[1] for b in range(n_blocks - 1)]
        return GeneratorConfig(
            resolution=4 * 2 ** (n_blocks - 1),
            channels=tuple(channels),
            z_dim=state["style.1.weight"].shape[1],
            w_dim=state["style.1.weight"].shape[0],
            n_mapping_layers=n_mapping,
        )
    except (KeyError, IndexError) as error:
        raise CheckpointError(
            f"{source} is not a rosinality StyleGAN2 generator (no tensor {error})"
        ) from None
    except ValueError as error:
        raise CheckpointError(
            f"{source} is not a rosinality StyleGAN2 generator: {error}"
        ) from None


def _names(config: GeneratorConfig) -> dict[str, str]:
    """Their key -> ours, for every tensor that has a counterpart."""
    names = {"input.input": "synthesis.const"}
    for i in range(config.n_mapping_layers):
        for part in ("weight", "bias"):
            names[f"style.{i + 1}.{part}"] = f"mapping.layers.{i}.{part}"
    n_convs = 2 * config.n_blocks - 1
    for i in range(n_convs):
        theirs, ours = ("conv1" if i == 0 else f"convs.{i - 1}"), f"synthesis.convs.{i}"
        names |= {
            f"{theirs}.conv.weight": f"{ours}.weight",
            f"{theirs}.conv.modulation.weight": f"{ours}.affine.weight",
            f"{theirs}.conv.modulation.bias": f"{ours}.affine.bias",
            f"{theirs}.noise.weight": f"{ours}.noise_strength",
            f"{theirs}.activate.bias": f"{ours}.bias",
            f"noises.noise_{i}": f"{ours}.noise",
        }
    for i in range(config.n_blocks):
        theirs, ours = ("to_rgb1" if i == 0 else f"to_rgbs.{i - 1}"), f"synthesis.to_rgbs.{i}"
        names |= {
            f"{theirs}.conv.weight": f"{ours}.weight",
            f"{theirs}.conv.modulation.weight": f"{ours}.affine.weight",
            f"{theirs}.conv.modulation.bias": f"{ours}.affine.bias",
            f"{theirs}.bias": f"{ours}.bias",
        }
    return names


def convert(
    state: Mapping[str, Tensor], source: str, latent_avg: Tensor | None = None
) -> tuple[GeneratorConfig, dict[str, Tensor]]:
    """Their state dict -> our config and tensors (views where the shape allows it, no copies).

    Args:
        state: a ``g_ema``, or the ``decoder.*`` part of an encoder file without its prefix.
        source: what to call it in errors.
        latent_avg: [w_dim], or [n_styles, w_dim] with one row repeated; zeros where unknown.

    Raises:
        CheckpointError: names the tensors that are missing or unexpected.
    """
    config = _config(state, source)
    names = _names(config)
    # The FIR filters are constants of the architecture, built in ours.
    known = {key for key in state if not key.endswith(".kernel")}
    problems = [f"missing {key}" for key in names if key not in known]
    problems += [f"unexpected {key}" for key in sorted(known - names.keys())]
    if problems:
        raise CheckpointError(
            f"{source} is not a complete rosinality generator: {'; '.join(problems[:5])}"
        )
    tensors = {ours: state[theirs] for theirs, ours in names.items()}
    for name, tensor in tensors.items():
        if name.endswith(("weight",)) and tensor.ndim == 5:
            tensors[name] = tensor[0]
        elif name.endswith(("noise_strength", "bias")) and "affine" not in name:
            tensors[name] = tensor.reshape(() if name.endswith("noise_strength") else -1)
    if latent_avg is None:
        latent_avg = tensors["mapping.layers.0.bias"].new_zeros(config.w_dim)
    tensors["mapping.latent_avg"] = latent_avg[0] if latent_avg.ndim == 2 else latent_avg
    return config, tensors


def load(path: str | os.PathLike) -> Generator:
    """A generator from a converted (``g_ema``, ``latent_avg``) or trained (``g_ema``, ``args``) file."""
    content: dict[str, Any] = checkpoint.load_pt(path)
    if "g_ema" not in content:
        hint = (
            "it is an encoder file: pass it to load_inverter or --model"
            if "state_dict" in content
            else f"it has {', '.join(map(str, sorted(content, key=str)[:6])) or 'no entries'}"
        )
        raise CheckpointError(f"{path} has no g_ema, so it is not a rosinality generator; {hint}")
    latent_avg = content.get("latent_avg")
    config, tensors = convert(content["g_ema"], str(path), latent_avg)
    generator = checkpoint.restore(lambda: Generator(config), tensors, str(path))
    if latent_avg is None:
        generator.latent_avg.copy_(generator.estimate_latent_avg())
        warnings.warn(
            f"{path} has no latent_avg; computed it from 10,000 samples of seed 0", stacklevel=2
        )
    return generator
