"""Checkpoint files from one kind to another."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import torch

from generators import (
    Generator,
    StyleBasedGenerator,
    StyleGAN3Generator,
    load_generator,
    save_generator,
)
from generators.files import atomic, checkpoint, download, nvidia_stylegan3, rosinality
from generators.files.checkpoint import CheckpointError

Kind = Literal["generator", "inverter"]


def kind_of(path: str | os.PathLike) -> Kind:
    """What a file seems to hold, from its header or the names of its entries; no tensor is read.

    Raises:
        CheckpointError: missing, damaged or hostile.
    """
    path = download.local(path)
    checkpoint.require_file(path)
    if path.suffix == ".safetensors":
        return "inverter" if checkpoint.read_header(path).kind == "inverter" else "generator"
    if path.suffix in (".pt", ".pth"):
        return "inverter" if "state_dict" in checkpoint.load_pt(path, mapped=True) else "generator"
    return "generator"  # loading it says so if it is none


def provenance(path: str | os.PathLike) -> tuple[str, str | None]:
    """What a converted file says of where it is from: notes, and sha256 of the foreign file."""
    path = download.local(path)
    if path.suffix == ".safetensors":
        header = checkpoint.read_header(path)
        return header.notes, header.source_sha256
    return f"converted from {path.name}", checkpoint.file_sha256(path)


def convert_generator(path: str | os.PathLike, out: str | os.PathLike) -> None:
    """Write the generator of a file as another kind of file; it draws the same images, to the bit.

    Args:
        path: what :func:`generators.load_generator` takes.
        out: ``.safetensors`` (ours) or ``.pt`` (rosinality; of a StyleGAN3 stylegan3-editing).

    Raises:
        CheckpointError: ``path`` cannot be read, or not be what ``out`` asks for.
    """
    out = require_output(out, (".safetensors", ".pt"), "a generator")
    generator = load_generator(path)
    if out.suffix == ".pt":
        content = _exported(generator)
        try:
            with atomic.written(out) as part:
                torch.save(content, part)
        except (OSError, RuntimeError) as error:  # torch has its own for a disk that is full
            raise checkpoint.not_written(out, error) from None
    else:
        notes, source = provenance(path)
        save_generator(out, generator, notes, source)


def _exported(generator: StyleBasedGenerator) -> dict[str, Any]:
    if isinstance(generator, StyleGAN3Generator):
        return nvidia_stylegan3.export(generator)
    assert isinstance(generator, Generator), "there are two kinds"
    return rosinality.export(generator)


def require_output(out: str | os.PathLike, suffixes: tuple[str, ...], what: str) -> Path:
    """``out``, if it is a name that can be written.

    Raises:
        CheckpointError: another ending, or no such folder.
    """
    out = Path(out)
    if out.suffix not in suffixes:
        raise CheckpointError(f"{out}: {what} can be written as {' or '.join(suffixes)}")
    if not os.path.isdir(out.parent):
        raise CheckpointError(f"there is no folder {out.parent} for {out.name}; create it first")
    return out
