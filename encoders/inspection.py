"""What a checkpoint file is, read off its header and its tensors' shapes; no network is built."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from encoders import inverter_file, published
from generators import GeneratorConfig, checkpoint, rosinality

HASH_BLOCK = 1 << 22


def describe(path: str | os.PathLike) -> dict[str, str]:
    """Facts about a file, in the order in which to show them.

    Args:
        path: ``.safetensors`` (ours), a published ReStyle or rosinality ``.pt``, or "demo".

    Raises:
        CheckpointError: no such file, or one that is none of these.
    """
    path = inverter_file.demo_path() if path == "demo" else Path(path)
    checkpoint.require_file(path)
    facts = {"file": str(path), "size": f"{path.stat().st_size / 2**20:.1f} MiB"}
    facts |= _ours(path) if path.suffix == ".safetensors" else _foreign(path)
    return {**facts, "sha256": _sha256(path)}


def _ours(path: Path) -> dict[str, str]:
    header = checkpoint.read_header(path)
    with safe_open(path, framework="pt") as file:
        sizes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    n = sum(_product(shape) for shape in sizes.values())
    facts = {"kind": f"{header.kind} (restyle-batch format {header.format_version})"}
    if header.kind == "generator":
        facts |= _generator(GeneratorConfig(**header.config))
        facts["latent average"] = "yes"
        facts["needs"] = "an encoder that was trained with it, to invert"
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


def _foreign(path: Path) -> dict[str, str]:
    content = checkpoint.load_pt(path)
    if "g_ema" in content:
        config, _ = rosinality.convert(content["g_ema"], str(path))
        facts = {"kind": "generator (rosinality)"} | _generator(config)
        average = "yes" if "latent_avg" in content else "no; computed from a fixed seed when loaded"
        needs = "an encoder that was trained with it, to invert"
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
    }


def _count(tensors: Mapping[str, Any]) -> int:
    return sum(t.numel() for t in tensors.values() if isinstance(t, Tensor))


def _product(shape: list[int]) -> int:
    n = 1
    for size in shape:
        n *= size
    return n


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()
