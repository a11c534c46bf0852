"""THE format: safetensors whose header holds one JSON record. Every other file is converted to it.

A checkpoint comes from strangers. Nothing here can execute one: safetensors holds numbers only, and
:func:`load_pt` lets torch's restricted unpickler build tensors, containers and ``argparse.Namespace``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

FORMAT_VERSION = 1
METADATA_KEY = "restyle"


class CheckpointError(ValueError):
    """A file that cannot be used as it is; the message says which file, why, and what to do."""


@dataclass(frozen=True)
class Header:
    """What a file of ours says of itself."""

    kind: str  # "generator" or "inverter"
    config: dict[str, Any]  # what rebuilds the network
    source_sha256: str | None = None  # of the foreign file it was converted from
    notes: str = ""  # one line for people: how it came about
    format_version: int = field(default=FORMAT_VERSION)


def save(path: str | os.PathLike, header: Header, tensors: Mapping[str, Tensor]) -> None:
    """Write a checkpoint; it appears whole under its name or not at all."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    ready = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    try:
        save_file(ready, temporary, metadata={METADATA_KEY: json.dumps(asdict(header))})
        # safetensors writes for the owner alone; a checkpoint is a file like any other.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _parse_header(path: Path, metadata: dict[str, str] | None) -> Header:
    if not metadata or METADATA_KEY not in metadata:
        raise CheckpointError(
            f"{path} is a safetensors file, but not of this project (no {METADATA_KEY!r} record in its "
            "header); pass a file that this project saved, or the published .pt"
        )
    try:
        header = Header(**json.loads(metadata[METADATA_KEY]))
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path} has a damaged header ({error}); save it again") from None
    if header.format_version > FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format version {header.format_version}, this release reads up to "
            f"{FORMAT_VERSION}; upgrade restyle-batch"
        )
    return header


def read_header(path: str | os.PathLike) -> Header:
    """The header alone, whatever the size of the file."""
    return _read(Path(path), with_tensors=False)[0]


def load(path: str | os.PathLike, kind: str) -> tuple[Header, dict[str, Tensor]]:
    """Header and tensors of a checkpoint of one kind.

    Raises:
        CheckpointError: missing, damaged, foreign, newer, or of another kind.
    """
    header, tensors = _read(Path(path), with_tensors=True)
    if header.kind != kind:
        raise CheckpointError(f"{path} is of the kind {header.kind}, where {kind} is needed")
    return header, tensors


def _read(path: Path, with_tensors: bool) -> tuple[Header, dict[str, Tensor]]:
    require_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            header = _parse_header(path, file.metadata())
            names = file.keys() if with_tensors else []
            return header, {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} is not a readable safetensors file ({error}); it may be truncated: copy it again"
        ) from None


def require_file(path: str | os.PathLike) -> None:
    """Raise a CheckpointError unless ``path`` is a file that can be read."""
    if not Path(path).is_file():
        raise CheckpointError(f"no checkpoint at {path}; pass the path of a file, or `demo`")
    if not os.access(path, os.R_OK):
        raise CheckpointError(f"{path} may not be read by this user; change its permissions")


def load_pt(path: str | os.PathLike) -> dict[str, Any]:
    """A torch.save file as plain data; tensors stay on the CPU, mapped from disk where possible.

    Raises:
        CheckpointError: missing, damaged, or holding anything but data.
    """
    require_file(path)
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            # Only the zip container (torch >= 1.6) can be mapped; older files are read whole.
            mapped = zipfile.is_zipfile(path)
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} was refused: it holds something other than tensors and settings "
            f"({_first_sentence(error)}), which could run code on this machine; get the checkpoint from "
            "its authors"
        ) from None
    except Exception as error:  # a damaged file fails in many ways inside torch's readers
        raise CheckpointError(
            f"{path} is not a readable torch file ({_first_sentence(error)}); it may be truncated or of "
            "another format: copy it again"
        ) from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, where a dict is needed")
    return content


def _first_sentence(error: Exception) -> str:
    """The fact in torch's message; its advice to load unsafely is wrong here."""
    text = " ".join(str(error).split())
    forbidden = re.search(r"GLOBAL (\S+)", text)
    if forbidden:
        return forbidden.group(1)
    return text.split(". ")[0][:160] or type(error).__name__


def load_strict(module: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Copy tensors into a module; every key and shape must fit.

    Raises:
        CheckpointError: names the missing, unexpected and misshapen tensors.
    """
    own = module.state_dict()
    problems = [f"missing {name}" for name in own if name not in tensors]
    problems += [f"unexpected {name}" for name in tensors if name not in own]
    problems += [
        f"{name} has shape {list(tensors[name].shape)}, needs {list(own[name].shape)}"
        for name in own
        if name in tensors and tensors[name].shape != own[name].shape
    ]
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise CheckpointError(
            f"{source} does not fit {type(module).__name__}: {'; '.join(problems[:5])}{more}"
        )
    module.load_state_dict(tensors)


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Identity of a set of tensors, whatever container they came in: names, dtypes, shapes, bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
