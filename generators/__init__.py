"""StyleGAN generators: networks, operations and the files they come in."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

# Feature maps at 1024 px are 128 MB each; huge pages cut the cost of allocating them to a third on Linux
# CPUs. torch reads this at its first allocation; a user's own setting wins.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

from generators import kinds
from generators.discriminator import Discriminator, DiscriminatorConfig
from generators.files import checkpoint, download, nvidia, nvidia_stylegan3, rosinality
from generators.files.checkpoint import CheckpointError
from generators.kinds import AnyConfig
from generators.style_based import StyleBasedGenerator
from generators.stylegan2 import Generator, GeneratorConfig
from generators.stylegan3 import StyleGAN3Generator
from generators.stylegan3_config import StyleGAN3Config

__all__ = [
    "CheckpointError",
    "Discriminator",
    "DiscriminatorConfig",
    "Generator",
    "GeneratorConfig",
    "StyleBasedGenerator",
    "StyleGAN3Config",
    "StyleGAN3Generator",
    "load_discriminator",
    "load_generator",
    "load_stylegan2",
    "save_discriminator",
    "save_generator",
]


def demo_path() -> Path:
    """The packaged demo generator."""
    return Path(str(resources.files("generators") / "weights" / "demo.safetensors"))


def load_generator(path: str | os.PathLike) -> StyleBasedGenerator:
    """A frozen generator on the CPU in float32: a StyleGAN2 (`Generator`) or a `StyleGAN3Generator`.

    Args:
        path: ``.safetensors`` (ours), ``.pt`` (rosinality's StyleGAN2, stylegan3-editing's StyleGAN3),
            ``.pkl`` (NVIDIA's StyleGAN2-ADA and StyleGAN3), or "demo".
            Of a ``.safetensors`` also its address: ``hf://owner/name/file.safetensors``, ``https://...``.

    Raises:
        CheckpointError: says in one sentence what is wrong with the file and what to do.
    """
    path = demo_path() if path == "demo" else download.local(path)
    checkpoint.require_file(path)
    if path.suffix == ".safetensors":
        return _load_ours(path)
    if path.suffix in (".pt", ".pth"):
        content = checkpoint.load_pt(path)
        if nvidia_stylegan3.is_stylegan3(content):
            return nvidia_stylegan3.load_pt(content, path)
        return rosinality.from_content(content, path)
    if path.suffix == ".pkl":
        return nvidia.load(path)
    raise CheckpointError(
        f"{path} is not a generator file by its name: .safetensors, .pt and .pkl can be read"
    )


def load_stylegan2(path: str | os.PathLike) -> Generator:
    """A generator that can be trained on: a StyleGAN2.

    Args:
        path: as for :func:`load_generator`.

    Raises:
        CheckpointError: as there, and for any other kind.
    """
    generator = load_generator(path)
    if not isinstance(generator, Generator):
        kind = kinds.name_of(generator.config)
        raise CheckpointError(
            f"{path} is a generator of StyleGAN3 ({kind}), which this release can use but not train; pass a "
            "StyleGAN2"
        )
    return generator


def config_of(header: checkpoint.Header, path: Path) -> AnyConfig:
    """The shape of the generator in a file of ours.

    Raises:
        CheckpointError: the header says none that can be.
    """
    try:
        return kinds.config_from(header.config)
    except (TypeError, ValueError) as error:
        raise checkpoint.damaged_header(path, error) from None


def discriminator_config_of(header: checkpoint.Header, path: Path) -> DiscriminatorConfig:
    """The shape of the discriminator in a file of ours.

    Raises:
        CheckpointError: the header says none that can be.
    """
    try:
        return DiscriminatorConfig(**header.config)
    except (TypeError, ValueError) as error:
        raise checkpoint.damaged_header(path, error) from None


def _load_ours(path: Path) -> StyleBasedGenerator:
    header, tensors = checkpoint.load(path, kind="generator")
    config = config_of(header, path)
    return checkpoint.restore(lambda: kinds.make(config), tensors, str(path))


def save_generator(
    path: str | os.PathLike,
    generator: StyleBasedGenerator,
    notes: str = "",
    source: str | None = None,
) -> None:
    """Write a generator as safetensors.

    Args:
        notes: one line for people: how it came about.
        source: sha256 of the foreign file it was converted from.
    """
    version = kinds.format_version(generator.config)
    header = checkpoint.Header("generator", generator.config.to_dict(), source, notes, version)
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
    config = discriminator.config
    version = checkpoint.WITH_OTHER_GENERATORS if config.c_dim else checkpoint.FORMAT_VERSION
    header = checkpoint.Header("discriminator", config.to_dict(), None, notes, version)
    checkpoint.save(path, header, discriminator.state_dict())
