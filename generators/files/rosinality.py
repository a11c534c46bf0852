"""Rosinality's StyleGAN2 ``.pt`` files -> ours, and back. All knowledge of their layout lives here."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from generators import ops
from generators.discriminator import Discriminator, DiscriminatorConfig
from generators.files import checkpoint
from generators.files.checkpoint import CheckpointError
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


def _require_tensors(state: Any, source: str) -> None:
    if not isinstance(state, Mapping):
        raise CheckpointError(
            f"{source} is not a rosinality file: {type(state).__name__} in place of tensors"
        )
    for key, value in state.items():
        if not (isinstance(key, str) and isinstance(value, Tensor)):
            raise CheckpointError(
                f"{source} is not a rosinality file: {str(key)[:80]} is not a named tensor"
            )


def _require_keys(state: Mapping[str, Tensor], names: Mapping[str, str], says: str) -> None:
    # The FIR filters are constants of the architecture, built in ours.
    own_keys = {key for key in state if not key.endswith(".kernel")}
    problems = [f"missing {key}" for key in names if key not in own_keys]
    problems += [f"unexpected {key}" for key in sorted(own_keys - names.keys())]
    if problems:
        raise CheckpointError(f"{says}: {'; '.join(problems[:5])}")


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
    _require_tensors(state, source)
    config = _config(state, source)
    names = _names(config)
    _require_keys(state, names, f"{source} is not a complete rosinality generator")
    tensors = {ours: state[theirs] for theirs, ours in names.items()}
    for name, tensor in tensors.items():
        if name.endswith(("weight",)) and tensor.ndim == 5 and len(tensor) == 1:
            tensors[name] = tensor[0]
        # (Of any other number of entries it stays, and is named as misshapen.)
        elif name.endswith("noise_strength") and tensor.numel() == 1:
            tensors[name] = tensor.reshape(())
        elif name.endswith("bias") and "affine" not in name:
            tensors[name] = tensor.reshape(-1) if tensor.numel() else tensor
    if latent_avg is None:
        latent_avg = tensors["mapping.layers.0.bias"].new_zeros(config.w_dim)
    tensors["mapping.latent_avg"] = (
        latent_avg[0] if latent_avg.ndim == 2 and len(latent_avg) else latent_avg
    )
    return config, tensors


def from_content(content: dict[str, Any], path: str | os.PathLike) -> Generator:
    """The generator in a converted (``g_ema``, ``latent_avg``) or trained (``g_ema``, ``args``) file.

    Raises:
        CheckpointError: it is none; ``path`` names it.
    """
    if "g_ema" not in content:
        hint = (
            "it is an encoder file: pass it to load_inverter or --model"
            if "state_dict" in content
            else f"it has {', '.join(map(str, sorted(content, key=str)[:6])) or 'no entries'}"
        )
        raise CheckpointError(f"{path} has no g_ema, so it is not a rosinality generator; {hint}")
    latent_avg = content.get("latent_avg")
    if latent_avg is not None:
        _require_tensors({"latent_avg": latent_avg}, str(path))
    config, tensors = convert(content["g_ema"], str(path), latent_avg)
    generator = checkpoint.restore(lambda: Generator(config), tensors, str(path))
    if latent_avg is None:
        generator.latent_avg.copy_(generator.estimate_latent_avg())
        warnings.warn(
            f"{path} has no latent_avg; computed it from 10,000 samples of seed 0", stacklevel=2
        )
    return generator


def _unlike(config: GeneratorConfig) -> list[str]:
    """What of a generator rosinality's class cannot be."""
    their_mapping = GeneratorConfig(config.resolution, config.channels)
    reasons = [f"it takes labels (c_dim {config.c_dim})"] if config.c_dim else []
    if config.conv_clamp is not None:
        reasons.append(f"its layers are bounded (conv_clamp {config.conv_clamp:g})")
    if config.architecture != "skip":
        reasons.append(f'its architecture is "{config.architecture}", not "skip"')
    if config.z_dim != config.w_dim or (config.mapping_width or config.w_dim) != config.w_dim:
        reasons.append("its mapping has layers of different widths")
    if config.mapping_lr_mul != their_mapping.mapping_lr_mul:
        reasons.append(f"its mapping has the multiplier {config.mapping_lr_mul:g}")
    return reasons


def export(generator: Generator) -> dict[str, Any]:
    """A generator as the content of a rosinality ``.pt``: ``g_ema`` and ``latent_avg``, bit-equal when run.

    Widths other than the published ones are kept; rosinality's class has its widths in a table in
    ``Generator.__init__``, which then must be changed to read the file there.

    Raises:
        CheckpointError: their class computes something else; names the differences.
    """
    config = generator.config
    reasons = _unlike(config)
    if reasons:
        raise CheckpointError(
            f"this generator cannot be a rosinality file: {'; '.join(reasons)}; keep it as .safetensors"
        )
    ours, state = generator.state_dict(), {}
    for theirs, name in _names(config).items():
        tensor = ours[name]
        if theirs.endswith("conv.weight"):
            tensor = tensor[None]
        elif theirs.endswith("noise.weight"):
            tensor = tensor.reshape(1)
        elif theirs.startswith("to_rgb") and name.endswith(".bias") and "affine" not in name:
            tensor = tensor.reshape(1, 3, 1, 1)
        state[theirs] = tensor.detach().clone()
    for i in range(config.n_blocks - 1):
        kernel = ops.fir_kernel(torch.float32, torch.device("cpu"), gain=4.0)
        state[f"convs.{2 * i}.conv.blur.kernel"] = kernel
        state[f"to_rgbs.{i}.upsample.kernel"] = kernel.clone()
    return {"g_ema": state, "latent_avg": generator.latent_avg.detach().clone()}


def convert_discriminator(
    state: Mapping[str, Tensor], source: str
) -> tuple[DiscriminatorConfig, dict[str, Tensor]]:
    """Their discriminator's state dict (``d`` in a training file) -> our config and tensors.

    Raises:
        CheckpointError: names the tensors that are missing or unexpected.
    """
    _require_tensors(state, source)
    says = f"{source} is not a rosinality StyleGAN2 discriminator"
    names = {"convs.0.0.weight": "from_rgb.weight", "convs.0.1.bias": "from_rgb.bias"}
    try:
        n_blocks = sum(key.endswith(".skip.1.weight") for key in state)
        channels = [state[f"convs.{i + 1}.skip.1.weight"].shape[0] for i in range(n_blocks)][::-1]
        channels.append(state["convs.0.0.weight"].shape[0])
        config = DiscriminatorConfig(4 * 2**n_blocks, tuple(channels))
    except (KeyError, IndexError, ValueError) as error:
        raise CheckpointError(f"{says} ({error})") from None
    for i in range(n_blocks):
        theirs, ours = f"convs.{i + 1}", f"blocks.{i}"
        names |= {
            f"{theirs}.conv1.0.weight": f"{ours}.conv0.weight",
            f"{theirs}.conv1.1.bias": f"{ours}.conv0.bias",
            f"{theirs}.conv2.1.weight": f"{ours}.conv1.weight",
            f"{theirs}.conv2.2.bias": f"{ours}.conv1.bias",
            f"{theirs}.skip.1.weight": f"{ours}.skip.weight",
        }
    names |= {"final_conv.0.weight": "final_conv.weight", "final_conv.1.bias": "final_conv.bias"}
    for i, ours in enumerate(("hidden", "score")):
        names |= {f"final_linear.{i}.{part}": f"{ours}.{part}" for part in ("weight", "bias")}
    _require_keys(state, names, says)
    return config, {ours: state[theirs] for theirs, ours in names.items()}


def load_discriminator(path: str | os.PathLike) -> Discriminator:
    """The discriminator of a trained file (``d`` beside ``g_ema``), in evaluation mode, without gradients.

    Raises:
        CheckpointError: unreadable, or without a discriminator.
    """
    content = checkpoint.load_pt(path)
    if "d" not in content:
        raise CheckpointError(
            f"{path} has no discriminator (no entry d); only files of rosinality's training have one"
        )
    config, tensors = convert_discriminator(content["d"], str(path))
    return checkpoint.restore(lambda: Discriminator(config), tensors, str(path))
