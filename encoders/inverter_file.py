"""Load and save inverters: an encoder, its latent average and the generator it belongs to."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from encoders import bound as bounds
from encoders import published
from encoders.bound import Bound
from encoders.execution import Compile
from encoders.restyle import Parts, ReStyle
from encoders.style_encoder import StyleEncoder, StyleEncoderConfig
from encoders.unet import UNet, UNetConfig
from encoders.view import MAX_PIXELS, View
from generators import StyleBasedGenerator, claims, kinds, load_generator
from generators.files import addresses, checkpoint, download
from generators.files.checkpoint import CheckpointError
from generators.precision import Precision, dtype_of

_ENCODER = "encoder."
_GENERATOR = "generator."
_BOUND = "bound."
PUBLISHED_SIDE = 256  # of what the published encoders see


@dataclass(frozen=True)
class GeneratorReference:
    """A generator that an inverter file names instead of holding it."""

    name: str  # what load_generator takes: "demo", or a path
    sha256: str  # generators.files.checkpoint.tensors_sha256 of its tensors

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not isinstance(self.sha256, str):
            raise ValueError("the name and sha256 of a generator must be texts")


@dataclass(frozen=True)
class Contents:
    """What an inverter file of ours holds."""

    encoder: UNet | StyleEncoder
    generator: StyleBasedGenerator | None  # None: it refers to one, or another takes its place
    reference: GeneratorReference | None
    latent_avg: Tensor
    input_size: tuple[int, int]
    view: View
    bound: Bound | None


def demo_path() -> Path:
    """The packaged demo inverter."""
    return Path(str(resources.files("encoders") / "weights" / "demo.safetensors"))


def load_inverter(
    path: str | os.PathLike,
    generator: str | os.PathLike | None = None,
    device: str | torch.device = "cpu",
    precision: Precision = "fp32",
    compile: Compile = "auto",
    bound: float | None = None,
) -> ReStyle:
    """A frozen inverter.

    Args:
        path: "demo", a `.safetensors` of this project, or a published ReStyle `.pt`. Of the first also the
            address, `hf://owner/name/file.safetensors` or `https://...`, from which it is downloaded once.
        generator: a file to use instead of the generator that the checkpoint holds or names.
        precision: of encoder and synthesis; latents are float32 in any case.
        compile: "auto" compiles and captures on a GPU once the model has inverted so many images that
            more are likely; "always" does from the first batch on, on a CPU too; "never" does not.
        bound: most standard deviations of W that a latent may lie from its mean along each axis, softly
            (`encoders.bound`); None: as the file says, none if it says nothing; 0: none.

    Raises:
        CheckpointError: says in one sentence what is wrong with a file and what to do.
        ValueError: unknown precision or `compile`, a precision that the device cannot compute in, or a
            bound that is none.
    """
    require_precision(precision, device)
    if compile not in get_args(Compile):
        raise ValueError(f"compile must be one of {', '.join(get_args(Compile))}, not {compile!r}")
    path = demo_path() if path == "demo" else download.local(path)
    checkpoint.require_file(path)
    if path.suffix not in (".safetensors", ".pt", ".pth"):
        raise CheckpointError(
            f"{path} ends in neither .safetensors nor .pt, the inverter files that can be read"
        )
    other = load_generator(generator) if generator is not None else None
    load = _load_ours if path.suffix == ".safetensors" else published.load
    parts = load(path, other)
    _require_fit(parts, path, generator)
    networks = parts.encoder, parts.generator, parts.latent_avg, parts.input_size
    limits = bounds.chosen(parts.bound, bound, parts.generator)
    model = parts.model_class(*networks, precision, parts.view, compile, limits)
    model.folds = True
    return model.to(device).eval().requires_grad_(False)


def load_encoder(
    path: str | os.PathLike, generator: StyleBasedGenerator
) -> tuple[UNet | StyleEncoder, Bound | None]:
    """The encoder of an inverter file and its bound, to train it on with this generator.

    Args:
        path: as in `load_inverter`; the file's own generator is not looked at.

    Raises:
        CheckpointError: an unreadable file, or an encoder whose styles the generator does not take.
    """
    path = demo_path() if path == "demo" else download.local(path)
    checkpoint.require_file(path)
    load = _load_ours if path.suffix == ".safetensors" else published.load
    parts = load(path, generator)
    _require_fit(parts, path, "given")
    return parts.encoder, parts.bound


def save_inverter(
    path: str | os.PathLike,
    model: ReStyle,
    generator_name: str | None = None,
    notes: str = "",
    source: str | None = None,
) -> None:
    """Write an inverter as safetensors.

    Args:
        generator_name: refer to this generator ("demo", or a path) by name and hash; None puts the
            generator's tensors into the file.
        notes: one line for people: how it came about.
        source: sha256 of the foreign file it was converted from.

    Raises:
        TypeError: the encoder is none of this package, so no file could rebuild it.
    """
    encoder = model.encoder
    if not isinstance(encoder, UNet | StyleEncoder):
        raise TypeError(f"cannot save a {type(encoder).__name__}: only UNet and StyleEncoder")
    tensors = {_ENCODER + name: t for name, t in encoder.state_dict().items()}
    tensors["latent_avg"] = model.latent_avg
    kind = {"type": "UNet"} if isinstance(encoder, UNet) else {}  # the others' config has a type
    config: dict[str, Any] = {
        "encoder": kind | asdict(encoder.config),
        "input_size": list(model.input_size),
        "view": asdict(model.view),
    }
    version = kinds.format_version(model.generator.config)
    if model.bound is not None:
        config["bound"] = model.bound.limit
        tensors |= {_BOUND + name: t for name, t in model.bound.tensors().items()}
        version = max(version, checkpoint.WITH_BOUND)
    of_generator = model.generator.state_dict()
    if generator_name is None:
        config["generator"] = model.generator.config.to_dict()
        tensors |= {_GENERATOR + name: t for name, t in of_generator.items()}
    else:
        reference = GeneratorReference(generator_name, checkpoint.tensors_sha256(of_generator))
        config["generator_reference"] = asdict(reference)
    header = checkpoint.Header("inverter", config, source, notes, version)
    checkpoint.save(path, header, tensors)


def _load_ours(path: Path, generator: StyleBasedGenerator | None) -> Parts:
    header, tensors = checkpoint.load(path, kind="inverter")
    held = contents(header, tensors, path, generator is None)
    if held.reference is not None:
        generator = _referred(held.reference, path)
    generator = generator or held.generator
    assert generator is not None, "a file holds a generator, or refers to one"
    networks = held.encoder, generator, held.latent_avg
    return Parts(*networks, held.input_size, held.view, held.bound)


def contents(
    header: checkpoint.Header, tensors: dict[str, Tensor], path: Path, with_generator: bool = True
) -> Contents:
    """What a header and its tensors make together; the tensors may be without numbers, as outlines are.

    Args:
        with_generator: False where another takes its place.

    Raises:
        CheckpointError: they do not belong together, or make nothing that can be.
    """
    config, own, reference = header.config, None, None
    try:
        make = _maker(dict(config["encoder"]))
        height, width = claims.require_sizes("input_size", config["input_size"], MAX_PIXELS)
        view = View(**config.get("view", {}))
        latent_avg = tensors["latent_avg"]
        bound = None
        if "bound" in config:
            w_dim = latent_avg.shape[-1] if latent_avg.ndim else 0
            bound = bounds.from_file(config["bound"], _below(tensors, _BOUND), w_dim)
        if with_generator and "generator" in config:
            own = kinds.config_from(config["generator"])
        elif with_generator:
            reference = GeneratorReference(**config["generator_reference"])
    except (TypeError, ValueError, KeyError) as error:
        raise checkpoint.damaged_header(path, error) from None
    encoder = checkpoint.restore(make, _below(tensors, _ENCODER), str(path))
    generator = None
    if own is not None:
        shape = own
        ours = _below(tensors, _GENERATOR)
        generator = checkpoint.restore(lambda: kinds.make(shape), ours, str(path))
    held = Contents(encoder, generator, reference, latent_avg, (height, width), view, bound)
    if generator is not None:
        _require_fit(Parts(encoder, generator, latent_avg, held.input_size, view), path, "in it")
    return held


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _maker(config: dict[str, Any]) -> Callable[[], UNet | StyleEncoder]:
    """What builds the encoder that a header describes."""
    if config.get("type") == "UNet":
        unet = UNetConfig(**{k: v for k, v in config.items() if k != "type"})
        return lambda: UNet(unet)
    published_one = StyleEncoderConfig(**config)
    return lambda: StyleEncoder(published_one)


def _referred(reference: GeneratorReference, path: Path) -> StyleBasedGenerator:
    """The generator that an inverter file refers to."""
    # What a file names is opened where it is on this machine, and never asked for elsewhere.
    if addresses.is_address(reference.name):
        raise CheckpointError(
            f"{path} names the address of its generator, which is not followed; pass the generator itself"
        )
    generator = load_generator(reference.name)
    digest = checkpoint.tensors_sha256(generator.state_dict())
    if digest != reference.sha256:
        raise CheckpointError(
            f"{path} was trained with another generator than {reference.name} is now (sha256 "
            f"{reference.sha256[:12]}, found {digest[:12]}); pass the right one as the generator, or "
            "train the encoder again"
        )
    return generator


def _require_fit(parts: Parts, path: Path, generator: str | os.PathLike | None) -> None:
    predicted, taken = parts.encoder.config, parts.generator
    if (predicted.n_styles, predicted.w_dim) != (taken.n_styles, taken.w_dim):
        raise CheckpointError(
            f"{path} predicts {predicted.n_styles} style vectors of {predicted.w_dim}, but the "
            f"generator {generator or 'in it'} takes {taken.n_styles} of {taken.w_dim} "
            f"({taken.resolution} px); use the generator that the encoder was trained with"
        )
    try:
        parts.view.size(taken.resolution)
    except ValueError as error:
        raise CheckpointError(f"{path} does not fit its generator: {error}") from None
    _require_input(parts, path)
    shape = list(parts.latent_avg.shape)
    if shape not in ([taken.n_styles, taken.w_dim], [taken.w_dim]):
        raise CheckpointError(
            f"{path} has a latent_avg of shape {shape}, needs [{taken.n_styles}, {taken.w_dim}] or "
            f"[{taken.w_dim}]; get the file again"
        )


def _require_input(parts: Parts, path: Path) -> None:
    """Refuse an input that the encoder cannot take, or that is larger than anything it is for."""
    size, encoder = parts.input_size, parts.encoder
    if isinstance(encoder, UNet):
        most = encoder.config.resolution
    else:
        most = max(PUBLISHED_SIDE, parts.generator.resolution)
    if max(size) > most:
        raise CheckpointError(
            f"{path} says that its encoder sees {size[1]}x{size[0]} px, but it was made for at most {most}; "
            "get the file again"
        )


def require_precision(precision: str, device: str | torch.device) -> None:
    """Raise a ValueError unless the device can compute with this precision."""
    dtype = dtype_of(precision)
    on_cpu = torch.device(device).type == "cpu"
    if precision == "tf32" and on_cpu:
        raise ValueError(
            "tf32 rounds products as an NVIDIA GPU's tensor cores do, and there is no such GPU here; "
            "use fp32 or bf16"
        )
    if precision == "fp16" and on_cpu:
        x = torch.zeros(1, 1, 4, 4, dtype=dtype)
        try:
            F.conv2d(x, x[:, :, :3, :3])
        except RuntimeError:
            raise ValueError(
                "this CPU or this build of torch cannot convolve in float16; use bf16 or fp32"
            ) from None
