"""What a checkpoint file is, read off its header and its tensors' shapes; no network is built."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from encoders import auxiliary, inverter_file, published
from encoders.style_encoder import SINGLE_PASS
from encoders.unet import UNet
from encoders.view import CARS, EVERYTHING, View
from generators import (
    CheckpointError,
    Discriminator,
    GeneratorConfig,
    config_of,
    delta,
    discriminator_config_of,
    kinds,
)
from generators.files import checkpoint, download, nvidia, nvidia_stylegan3, rosinality
from generators.kinds import AnyConfig

TO_INVERT = "an encoder that was trained with it, to invert"
NVIDIA_NAMES = {"StyleGAN2": "StyleGAN2-ADA"}  # of kinds, where their files have another
MAX_SHOWN = 300  # letters of a setting
COMPUTED = "no; computed from a fixed seed when loaded"
# Words of the settings and names of published files.
_FACES = re.compile(r"ffhq|celeb|toon|face", re.IGNORECASE)
_OTHERS = re.compile(r"cars?_|church|horse|afhq|wild|cat_|dog_", re.IGNORECASE)


@dataclass(frozen=True)
class Use:
    """What a file is for, for whoever writes the command that uses it."""

    kind: str  # "inverter", "generator", "discriminator", "direction", "pivot"; else a network that measures
    subject: Literal["face", "other", "unknown"] = "unknown"  # of the pictures that it learned from
    one_step: bool = False  # it cannot take more


def use(path: str | os.PathLike) -> Use:
    """What a file that :func:`describe` has shown is for; its tensors are not read."""
    if path == "demo":
        return Use("inverter", "face")
    path = download.local(path)
    if path.suffix == ".safetensors":
        return _use_of_ours(*checkpoint.read_outline(path), path)
    if path.suffix == ".pkl":
        return Use("generator")
    content = checkpoint.load_pt(path, mapped=True)
    if nvidia_stylegan3.is_stylegan3(content):
        return Use("generator")
    if "g_ema" in content or "state_dict" not in content:
        return Use("generator" if "g_ema" in content else "network that measures")
    published_one = published.describe(content, str(path))
    one_step = published_one.encoder.in_channels == SINGLE_PASS
    return Use("inverter", _subject(published_one.dataset), one_step)


def _use_of_ours(header: checkpoint.Header, tensors: dict[str, Tensor], path: Path) -> Use:
    if header.kind == "generator":
        return Use("generator")
    if header.kind != "inverter":
        return Use(header.kind)
    held = inverter_file.contents(header, tensors, path)
    subject = _subject(header.notes)  # which name the file that it was converted from
    if held.view == CARS:
        subject = "other"
    elif held.reference is not None and held.reference.name == "demo":
        subject = "face"
    return Use(header.kind, subject, held.encoder.config.in_channels == SINGLE_PASS)


def _subject(text: str) -> Literal["face", "other", "unknown"]:
    if _OTHERS.search(text):  # afhq has faces of its own
        return "other"
    return "face" if _FACES.search(text) else "unknown"


def describe(path: str | os.PathLike) -> dict[str, str]:
    """Facts about a file, in the order in which to show them.

    Args:
        path: ``.safetensors`` (ours), a published ReStyle, pSp, e4e, rosinality or stylegan3-editing
            ``.pt``, an NVIDIA ``.pkl``, a file of a network that measures, or "demo".

    Raises:
        CheckpointError: no such file, or one that is none of these.
    """
    path = inverter_file.demo_path() if path == "demo" else download.local(path)
    checkpoint.require_file(path)
    facts = {"file": str(path), "size": f"{path.stat().st_size / 2**20:.1f} MiB"}
    read = {".safetensors": _ours, ".pkl": _nvidia}.get(path.suffix, _foreign)
    return {**facts, **read(path), "sha256": checkpoint.file_sha256(path)}


def _ours(path: Path) -> dict[str, str]:
    # What the header claims is shown once the tensors of the file are found to be it.
    header, tensors = checkpoint.read_outline(path)
    facts = {"kind": f"{header.kind} (restyle-batch format {header.format_version})"}
    if header.kind == "discriminator":
        shape = discriminator_config_of(header, path)
        checkpoint.restore(lambda: Discriminator(shape), tensors, str(path))
        facts |= {
            "resolution": f"{shape.resolution}x{shape.resolution} px",
            **_labels(shape.c_dim),
            "needs": "nothing else; it is used in training",
        }
    elif header.kind == "generator":
        config = config_of(header, path)
        checkpoint.restore(lambda: kinds.make(config), tensors, str(path))
        facts |= _generator(config) | {"needs": TO_INVERT}
    elif header.kind == "direction":
        facts |= {name[:MAX_SHOWN]: _text(value) for name, value in header.config.items()}
        facts["needs"] = (
            "latents of the generator that it was learned with; restyle edit applies it"
        )
    elif header.kind == delta.KIND:
        facts |= {name: _text(value) for name, value in delta.facts(header, tensors, path).items()}
    elif header.kind == "inverter":
        facts |= _our_inverter(header, tensors, path)
    else:
        raise CheckpointError(
            f"{path} is a file of kind {header.kind}, which this release does not know; upgrade restyle-batch"
        )
    needs = facts.pop("needs")
    facts["parameters"] = _parameters(_count(tensors))
    if header.kind in ("generator", "inverter"):
        facts["latent average"] = "yes"
    facts["needs"] = needs
    return facts | ({"notes": header.notes} if header.notes else {})


def _text(value: Any) -> str:
    """A setting for people; a long list or text is cut."""
    text = str(value)
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."


def _our_inverter(
    header: checkpoint.Header, tensors: dict[str, Tensor], path: Path
) -> dict[str, str]:
    held = inverter_file.contents(header, tensors, path)
    encoder = held.encoder.config
    kind = "UNet" if isinstance(held.encoder, UNet) else str(held.encoder.config.type)
    facts = {"encoder": kind} | _seen(held.input_size, encoder.in_channels)
    if held.bound is not None:
        facts["bound"] = f"{held.bound.limit:g} standard deviations of W along each of its axes"
    if held.generator is not None:
        facts |= _generator(held.generator.config, held.view)
        return facts | {"needs": "nothing else"}
    assert held.reference is not None
    styles = f"{encoder.n_styles} of {encoder.w_dim}"
    return facts | {"styles": styles, "needs": f"the generator {held.reference.name}"}


def _nvidia(path: Path) -> dict[str, str]:
    config, tensors = nvidia.describe(path)
    name = kinds.name_of(config)
    return {
        "kind": f"generator (NVIDIA {NVIDIA_NAMES.get(name, name)})",
        **_generator(config),
        "parameters": _parameters(sum(math.prod(t.shape) for t in tensors.values())),
        "latent average": "yes",
        "needs": TO_INVERT,
    }


def _foreign(path: Path) -> dict[str, str]:
    content = checkpoint.load_pt(path, mapped=True)
    if "g_ema" in content:
        config, _ = rosinality.convert(content["g_ema"], str(path))
        return {
            "kind": "generator (rosinality)",
            **_generator(config),
            "parameters": _parameters(_count(content["g_ema"])),
            "latent average": "yes" if "latent_avg" in content else COMPUTED,
            "needs": TO_INVERT,
        }
    if "state_dict" in content:
        return _published(content, path)
    if nvidia_stylegan3.is_stylegan3(content):
        shape, tensors = nvidia_stylegan3.convert(content, str(path))
        return {
            "kind": f"generator (stylegan3-editing, {kinds.name_of(shape)})",
            **_generator(shape),
            "parameters": _parameters(_count(tensors)),
            "latent average": "yes",
            "needs": TO_INVERT,
        }
    use = auxiliary.use_of(content)
    if use is None:
        raise CheckpointError(
            f"{path} is not a file that can be used here: an encoder has a state_dict, a generator a "
            f"g_ema; this one has {', '.join(map(str, sorted(content, key=str)[:4])) or 'nothing'}"
        )
    tensors = content.get("discriminator_state_dict", content)
    return {"kind": use.kind, "parameters": _parameters(_count(tensors)), "needs": use.needs}


def _published(content: Mapping[str, Any], path: Path) -> dict[str, str]:
    description = published.describe(content, str(path))
    average = "yes" if content.get("latent_avg") is not None else COMPUTED
    return {
        "kind": f"inverter (published {description.project})",
        "encoder": description.encoder.type,
        **_seen(description.input_size, description.encoder.in_channels),
        **({"trained with": f"{description.n_steps} steps"} if description.n_steps > 1 else {}),
        **_generator(description.generator, description.view),
        "parameters": _parameters(_count(content["state_dict"])),
        "latent average": average
        if description.from_average
        else "not used (start_from_latent_avg)",
        "needs": "nothing else",
    }


def _seen(input_size: tuple[int, ...], in_channels: int) -> dict[str, str]:
    """What an encoder sees and how often."""
    return {
        "input": "x".join(map(str, reversed(input_size))) + " px",
        "steps": "1" if in_channels == SINGLE_PASS else "as many as asked for",
    }


def _generator(config: AnyConfig, view: View = EVERYTHING) -> dict[str, str]:
    shown = "x".join(map(str, reversed(view.size(config.resolution))))
    architecture = (
        config.architecture if isinstance(config, GeneratorConfig) else kinds.name_of(config)
    )
    padded = "" if view == EVERYTHING else f", without its padding {shown}"
    return {
        "resolution": f"{config.resolution}x{config.resolution} px{padded}",
        "styles": f"{config.n_styles} of {config.w_dim}",
        **_labels(config.c_dim),
        **(
            {"classes": _text(", ".join(names))}
            if (names := getattr(config, "class_names", ()))
            else {}
        ),
        **({"architecture": architecture} if architecture != "skip" else {}),
        **({"conv_clamp": f"{config.conv_clamp:g}"} if config.conv_clamp is not None else {}),
    }


def _labels(c_dim: int) -> dict[str, str]:
    return {"labels": f"{c_dim} entries each"} if c_dim else {}


def _parameters(n: int) -> str:
    return f"{n / 1e6:.1f} million, with buffers"


def _count(tensors: Mapping[str, Any]) -> int:
    return sum(t.numel() for t in tensors.values() if isinstance(t, Tensor))
