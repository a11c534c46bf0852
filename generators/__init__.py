"""StyleGAN generators: networks, operations and the files they come in."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

# Feature maps at 1024 px are 128 MB each; huge pages cut the cost of allocating them to a third on Linux
# CPUs. torch reads this at its first allocation; a user's own setting wins.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

from generators import checkpoint, nvidia, rosinality
from generators.checkpoint import CheckpointError
from generators.stylegan2 import Generator, GeneratorConfig

__all__ = [
    "CheckpointError",
    "Generator",
    "GeneratorConfig",
    "load_generator",
    "save_generator",
]


def demo_path() -> Path:
    """The packaged demo generator."""
    return Path(str(resources.files("generators") / "weights" / "demo.safetensors"))


def load_generator(path: str | os.PathLike) -> Generator:
    """A frozen generator on the CPU in float32.

    Args:
        path: ``.safetensors`` (ours), ``.pt`` (rosinality), ``.pkl`` (NVIDIA StyleGAN2-ADA), or "demo".

    Raises:
        CheckpointError: says in one sentence what is wrong with the file and what to do.
    """
    path = demo_path() if path == "demo" else Path(path)
    checkpoint.require_file(path)
    if path.suffix == ".safetensors":
        return _load_ours(path)
    if path.suffix in (".pt", ".pth"):
        return rosinality.load(path)
    if path.suffix == ".pkl":
        return nvidia.load(path)
    raise CheckpointError(
        f"{path} ends in none of .safetensors, .pt and .pkl, the generator files that can be read"
    )


def config_of(header: checkpoint.Header, path: Path) -> GeneratorConfig:
    """The shape of the generator in a file of ours.

    Raises:
        CheckpointError: the header says none that can be.
    """
    try:
        return GeneratorConfig(**header.config)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path} has a damaged header ({error}); save it again") from None


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
