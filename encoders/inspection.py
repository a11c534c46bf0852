"""What a checkpoint file is, read off its header and its tensors' shapes; no network is built."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from encoders import inverter_file, published
from generators import GeneratorConfig, checkpoint, config_of, nvidia, rosinality

TO_INVERT = "an encoder that was trained with it, to invert"


def describe(path: str | os.PathLike) -> dict[str, str]:
    """Facts about a file, in the order in which to show them.

    Args:
        path: ``.safetensors`` (ours), a published ReStyle or rosinality ``.pt``, an NVIDIA ``.pkl``, or
            "demo".

    Raises:
        CheckpointError: no such file, or one that is none of these.
    """
    path = inverter_file.demo_path() if path == "demo" else Path(path)
    checkpoint.require_file(path)
    facts = {"file": str(path), "size": f"{path.stat().st_size / 2**20:.1f} MiB"}
    read = {".safetensors": _ours, ".pkl": _nvidia}.get(path.suffix, _foreign)
    return {**facts, **read(path), "sha256": checkpoint.file_sha256(path)}


def _ours(path: Path) -> dict[str, str]:
    header = checkpoint.read_header(path)
    with safe_open(path, framework="pt") as file:
        sizes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    n = sum(math.prod(shape) for shape in sizes.values())
    facts = {"kind": f"{header.kind} (restyle-batch format {header.format_version})"}
    if header.kind == "generator":
        facts |= _generator(config_of(header, path))
        facts["latent average"] = "yes"
        facts["needs"] = TO_INVERT
    else:
        encoder = header.config["encoder"]
        facts["encoder"] = str(encoder["type"])
        facts["input"] = "x".join(map(str, reversed(header.config["input_size"]))) + " px"
        facts["styles"] = f"{encoder['n_styles']}"
        facts["latent average"] = "yes"
        reference = header.config.get("generator_reference")
        facts["needs"] = f"the generator {reference['name']}" if reference else "nothing else"
    facts["parameters"] = f"{n / 1e6:.1f} million, with buffers"
    return facts | ({"notes": header.notes} if header.notes else {})


def _nvidia(path: Path) -> dict[str, str]:
    config, tensors = nvidia.describe(path)
    return {
        "kind": "generator (NVIDIA StyleGAN2-ADA)",
        **_generator(config),
        "parameters": f"{sum(math.prod(t.shape) for t in tensors.values()) / 1e6:.1f} million, with buffers",
        "latent average": "yes",
        "needs": TO_INVERT,
    }


def _foreign(path: Path) -> dict[str, str]:
    content = checkpoint.load_pt(path, mapped=True)
    if "g_ema" in content:
        config, _ = rosinality.convert(content["g_ema"], str(path))
        facts = {"kind": "generator (rosinality)"} | _generator(config)
        average = "yes" if "latent_avg" in content else "no; computed from a fixed seed when loaded"
        needs = TO_INVERT
        tensors = content["g_ema"]
    else:
        encoder_state, decoder_state = published.split(content, str(path))
        config, _ = rosinality.convert(decoder_state, str(path))
        facts = {
            "kind": "inverter (published ReStyle)",
            "encoder": published.encoder_type(content, str(path)),
        }
        facts |= _generator(config)
        average = "yes" if content.get("latent_avg") is not None else "no; computed when loaded"
        needs, tensors = "nothing else", {**encoder_state, **decoder_state}
    return {
        **facts,
        "parameters": f"{_count(tensors) / 1e6:.1f} million, with buffers",
        "latent average": average,
        "needs": needs,
    }


def _generator(config: GeneratorConfig) -> dict[str, str]:
    return {
        "resolution": f"{config.resolution}x{config.resolution} px",
        "styles": f"{config.n_styles} of {config.w_dim}",
        **({"architecture": config.architecture} if config.architecture != "skip" else {}),
        **({"conv_clamp": f"{config.conv_clamp:g}"} if config.conv_clamp is not None else {}),
    }


def _count(tensors: Mapping[str, Any]) -> int:
    return sum(t.numel() for t in tensors.values() if isinstance(t, Tensor))
