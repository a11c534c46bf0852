"""StyleGAN generators: networks, operations and the files they come in."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path
from typing import TypeVar

# Feature maps at 1024 px are 128 MB each; huge pages cut the cost of allocating them to a third on Linux
# CPUs. torch reads this at its first allocation; a user's own setting wins.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

from generators.discriminator import Discriminator, DiscriminatorConfig
from generators.files import checkpoint, download, nvidia, rosinality
from generators.files.checkpoint import CheckpointError
from generators.stylegan2 import Generator, GeneratorConfig

__all__ = [
    "CheckpointError",
    "Discriminator",
    "DiscriminatorConfig",
    "Generator",
    "GeneratorConfig",
    "load_discriminator",
    "load_generator",
    "save_discriminator",
    "save_generator",
]


Shape = TypeVar("Shape", GeneratorConfig, DiscriminatorConfig)


def demo_path() -> Path:
    """The packaged demo generator."""
    return Path(str(resources.files("generators") / "weights" / "demo.safetensors"))


def load_generator(path: str | os.PathLike) -> Generator:
    """A frozen generator on the CPU in float32.

    Args:
        path: ``.safetensors`` (ours), ``.pt`` (rosinality), ``.pkl`` (NVIDIA StyleGAN2-ADA), or "demo".
            Of a ``.safetensors`` also its address: ``hf://owner/name/file.safetensors``, ``https://...``.

    Raises:
        CheckpointError: says in one sentence what is wrong with the file and what to do.
    """
    path = demo_path() if path == "demo" else download.local(path)
    checkpoint.require_file(path)
    if path.suffix == ".safetensors":
        return _load_ours(path)
    if path.suffix in (".pt", ".pth"):
        return rosinality.load(path)
    if path.suffix == ".pkl":
        return nvidia.load(path)
    raise CheckpointError(
        f"{path} is not a generator file by its name: .safetensors, .pt and .pkl can be read"
    )


def config_of(header: checkpoint.Header, path: Path) -> GeneratorConfig:
    """The shape of the generator in a file of ours.

    Raises:
        CheckpointError: the header says none that can be.
    """
    return _shape(GeneratorConfig, header, path)


def discriminator_config_of(header: checkpoint.Header, path: Path) -> DiscriminatorConfig:
    """The shape of the discriminator in a file of ours.

    Raises:
        CheckpointError: the header says none that can be.
    """
    return _shape(DiscriminatorConfig, header, path)


def _shape(kind: type[Shape], header: checkpoint.Header, path: Path) -> Shape:
    try:
        return kind(**header.config)
    except (TypeError, ValueError) as error:
        raise checkpoint.damaged_header(path, error) from None


def _load_ours(path: Path) -> Generator:
    header, tensors = checkpoint.load(path, kind="generator")
    config = config_of(header, path)
    return checkpoint.restore(lambda: Generator(config), tensors, str(path))


def save_generator(
    path: str | os.PathLike, generator: Generator, notes: str = "", source: str | None = None
) -> None:
    """Write a generator as safetensors.

    Args:
        notes: one line for people: how it came about.
        source: sha256 of the foreign file it was converted from.
    """
    header = checkpoint.Header("generator", generator.config.to_dict(), source, notes)
    checkpoint.save(path, header, generator.state_dict())


def load_discriminator(path: str | os.PathLike) -> Discriminator:
    """A frozen discriminator on the CPU in float32.

    Args:
        path: ``.safetensors`` (ours), or rosinality's training file ``.pt`` with an entry ``d``.

    Raises:
        CheckpointError: says in one sentence what is wrong with the file and what to do.
    """
    path = download.local(path)
    if path.suffix in (".pt", ".pth"):
        return rosinality.load_discriminator(path)
    header, tensors = checkpoint.load(path, kind="discriminator")
    config = discriminator_config_of(header, path)
    return checkpoint.restore(lambda: Discriminator(config), tensors, str(path))


def save_discriminator(
    path: str | os.PathLike, discriminator: Discriminator, notes: str = ""
) -> None:
    """Write a discriminator as safetensors; ``notes`` is one line for people: how it came about."""
    header = checkpoint.Header("discriminator", discriminator.config.to_dict(), notes=notes)
    checkpoint.save(path, header, discriminator.state_dict())
