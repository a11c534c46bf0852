"""THE format: safetensors whose header holds one JSON record. Every other file is converted to it.

A checkpoint comes from strangers. Nothing here can execute one: safetensors holds numbers only, and
:func:`load_pt` lets torch's restricted unpickler build tensors, containers and ``argparse.Namespace``, after
:mod:`generators.files.torchfile` has refused what would take more memory than the file has bytes.

What is loaded lies in memory of its own, read once from the file: a mapped file that is overwritten while a
job runs would change its weights, or end it with a bus error.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from generators import claims
from generators.files import atomic, settings, torchfile
from generators.files.pickled import DamagedPickle, RefusedPickle

FORMAT_VERSION = 1
WITH_BOUND = 2  # an inverter with a bound, which readers of version 1 would leave out
WITH_OTHER_GENERATORS = 3  # a StyleGAN3 or a conditional network, which readers of 2 cannot build
METADATA_KEY = "restyle"
HASH_BLOCK = 1 << 22
MAX_MESSAGE = 1000

Network = TypeVar("Network", bound=nn.Module)


class CheckpointError(ValueError):
    """A file that cannot be used as it is; the message says which file, why, and what to do."""

    def __init__(self, message: str) -> None:
        # Names from the file stand in it, and may hold anything: control codes of a terminal, megabytes.
        text = "".join(c if c.isprintable() else "?" for c in message[:MAX_MESSAGE])
        super().__init__(text + ("..." if len(message) > MAX_MESSAGE else ""))


@dataclass(frozen=True)
class Header:
    """What a file of ours says of itself."""

    kind: str  # "generator", "discriminator", "inverter", "direction" or "pivot"
    config: dict[str, Any]  # what rebuilds the network
    source_sha256: str | None = None  # of the foreign file it was converted from
    notes: str = ""  # one line for people: how it came about
    format_version: int = field(default=FORMAT_VERSION)

    def require_types(self) -> None:
        """Raise a TypeError unless each field is what it should be: a file says it."""
        for name, kind in (
            ("kind", str),
            ("config", dict),
            ("notes", str),
            ("format_version", int),
        ):
            if not isinstance(getattr(self, name), kind):
                raise TypeError(f"its {name} is a {type(getattr(self, name)).__name__}")


def save(path: str | os.PathLike, header: Header, tensors: Mapping[str, Tensor]) -> None:
    """Write a checkpoint; it appears whole under its name or not at all.

    Raises:
        CheckpointError: it cannot be written.
    """
    ready = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    metadata = {METADATA_KEY: json.dumps(asdict(header))}
    try:
        with atomic.written(path) as part:
            save_file(ready, part, metadata=metadata)
    except (SafetensorError, OSError) as error:
        raise not_written(path, error) from None


def not_written(path: str | os.PathLike, error: Exception) -> CheckpointError:
    """That a file cannot be written, in one sentence."""
    why = (isinstance(error, OSError) and error.strerror) or error
    return CheckpointError(f"cannot write {path} ({why}); write it elsewhere, or free some space")


def _parse_header(path: Path, metadata: dict[str, str] | None) -> Header:
    if not metadata or METADATA_KEY not in metadata:
        raise CheckpointError(
            f"{path} is a safetensors file, but not from this project (no {METADATA_KEY!r} record in its "
            "header); pass a file that this project saved, or the published .pt"
        )
    try:
        header = Header(**json.loads(metadata[METADATA_KEY]))
        header.require_types()
    except (TypeError, ValueError, RecursionError) as error:
        raise damaged_header(path, error) from None
    if header.format_version > WITH_OTHER_GENERATORS:
        raise CheckpointError(
            f"{path} has format version {header.format_version}, this release reads up to "
            f"{WITH_OTHER_GENERATORS}; upgrade restyle-batch"
        )
    return header


def read_header(path: str | os.PathLike) -> Header:
    """The header alone, whatever the size of the file."""
    return _read(Path(path), with_tensors=False)[0]


def read_outline(path: str | os.PathLike) -> tuple[Header, dict[str, Tensor]]:
    """The header, and in place of each tensor one of its shape without numbers, on the device "meta"."""
    header = read_header(path)
    with safe_open(path, framework="pt") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    return header, {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def load(path: str | os.PathLike, kind: str) -> tuple[Header, dict[str, Tensor]]:
    """Header and tensors of a checkpoint of one kind.

    Raises:
        CheckpointError: missing, damaged, foreign, newer, or of another kind.
    """
    header, tensors = _read(Path(path), with_tensors=True)
    if header.kind != kind:
        raise CheckpointError(
            f"{path} is a file of kind {header.kind}, but the kind {kind} is needed"
        )
    return header, tensors


def _read(path: Path, with_tensors: bool) -> tuple[Header, dict[str, Tensor]]:
    require_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            header = _parse_header(path, file.metadata())
            names = file.keys() if with_tensors else []
            mapped = {name: file.get_tensor(name) for name in names}
            return header, _copied(path, mapped)
    except (SafetensorError, DamagedPickle) as error:
        raise CheckpointError(
            f"{path} is not a readable safetensors file ({error}); it may be truncated; copy it again"
        ) from None


def _copied(path: Path, mapped: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors in memory of their own; the mapped ones say shapes and dtypes, and are not read.

    (Copying them instead would hold the numbers twice: as pages of the file, and as the copy.)
    """
    tensors = {name: torch.empty_like(tensor) for name, tensor in mapped.items()}
    with open(path, "rb") as file:
        n_header = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(n_header))
        for name in sorted(tensors, key=lambda name: header[name]["data_offsets"][0]):
            file.seek(8 + n_header + header[name]["data_offsets"][0])
            torchfile.read_into(tensors[name], file)
    return tensors


def require_file(path: str | os.PathLike) -> None:
    """Raise a CheckpointError unless ``path`` is a file that can be read."""
    if not os.path.isfile(path):  # False for a name that no file can have
        raise CheckpointError(
            f"no checkpoint at {path}; pass the path of a file, or `demo` (`restyle models` says where "
            "published ones are)"
        )
    if not os.access(path, os.R_OK):
        raise CheckpointError(f"{path} cannot be read by this user; change its permissions")


def load_pt(path: str | os.PathLike, mapped: bool = False) -> dict[str, Any]:
    """A torch.save file that holds a dict; see :func:`read_pt`.

    Raises:
        CheckpointError: as there, and for anything but a dict.
    """
    content = read_pt(path, mapped)
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, where a dict is needed")
    return content


def read_pt(path: str | os.PathLike, mapped: bool = False) -> Any:
    """A torch.save file as plain data; tensors stay on the CPU.

    Args:
        mapped: leave the tensors in the file and map them where its container can be: quick, to look at
            names and shapes, but their numbers are no longer those once the file is overwritten.

    Raises:
        CheckpointError: missing, damaged, holding anything but data, or larger in memory than as a file.
    """
    require_file(path)
    try:
        is_zip = torchfile.require_harmless(path)
        # (The functions in place of other classes are none of theirs: see generators.files.settings.)
        stand_ins = [(function, name) for name, function in settings.STAND_INS.items()]
        with torch.serialization.safe_globals([argparse.Namespace, *stand_ins]):
            content = torch.load(
                path, map_location="cpu", weights_only=True, mmap=mapped and is_zip
            )
    except RefusedPickle as error:
        raise refused(path, error) from None
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} was refused: it holds something other than tensors and settings "
            f"({_first_sentence(error)}), which could run code on this machine; {WAY_OUT}"
        ) from None
    except Exception as error:  # a damaged file fails in many ways inside torch's readers
        raise damaged(path, "torch file", error) from None
    return _unwrapped(content)


def _unwrapped(content: Any) -> Any:
    """State dicts without the ``module.`` that torch's DataParallel puts into their names."""
    if not isinstance(content, dict):
        return content
    return {name: _plain_names(value) for name, value in _plain_names(content).items()}


def _plain_names(state: Any) -> Any:
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        return state
    names = {key: ".".join(part for part in key.split(".") if part != "module") for key in state}
    is_wrapped = any(names[key] != key for key in state) and len(set(names.values())) == len(names)
    return {names[key]: value for key, value in state.items()} if is_wrapped else state


# Where programs have the classes of their networks: stylegan2-ada-pytorch and what is made from it (PTI), and
# those of pSp, e4e and ReStyle.
_NETWORKS = re.compile(r"(training|torch_utils|models?|networks?|stylegan\w*|dnnlib)\b[\w.]*")
# For somebody who saved a whole module; and for everybody else.
WAY_OUT = (
    "if you made it, save its weights as data from the program that has the network G: with "
    "pickle.dump({'G_ema': G}, file) into a .pkl as stylegan2-ada-pytorch does, or its state_dict() with "
    "torch.save; otherwise ask its author for such a file"
)


def refused(path: str | os.PathLike, error: RefusedPickle) -> CheckpointError:
    """The sentence for a file that holds what may not be read."""
    if _NETWORKS.fullmatch(str(error)):
        return CheckpointError(
            f"{path} was refused: it is a whole network that torch.save wrote with its class {error}, as PTI "
            "does with its model_*.pt, and reading it would run code; if you made it, three lines where that "
            "program runs write its weights as data: import pickle, torch; "
            f"G = torch.load({Path(path).name!r}, map_location='cpu', weights_only=False); "
            "pickle.dump({'G_ema': G}, open('G.pkl', 'wb')); pass G.pkl then, of an encoder its state_dict "
            "as the project's own training saves it; otherwise ask its author for such a file"
        )
    return CheckpointError(
        f"{path} was refused: it holds {error}, which no checkpoint needs and which could harm this "
        f"machine; {WAY_OUT}"
    )


def damaged(path: str | os.PathLike, kind: str, error: Exception) -> CheckpointError:
    """The sentence for a file that cannot be read to its end."""
    return CheckpointError(
        f"{path} is not a readable {kind} ({_first_sentence(error)}); it may be truncated or of "
        "another format: copy it again"
    )


def _first_sentence(error: Exception) -> str:
    """The fact in torch's message; its advice to load unsafely is wrong here."""
    text = " ".join(str(error).split())
    forbidden = re.search(r"GLOBAL (\S+)", text)
    if forbidden:
        return forbidden.group(1)
    return text.split(". ")[0][:160] or type(error).__name__


def damaged_header(path: str | os.PathLike, error: Exception) -> CheckpointError:
    """The sentence for a file of ours that describes nothing that can be."""
    return CheckpointError(f"{path} has a damaged header ({error}); save it again")


def load_strict(module: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Give tensors to a module, which takes them as they are, without a copy, where the dtype fits.

    Every key and shape must fit. The module may have been made on the device "meta", without memory;
    otherwise the tensors go to the device that its own are on.

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
    ready = {}
    for name, empty in own.items():
        device = tensors[name].device if empty.is_meta else empty.device
        ready[name] = tensors[name].detach().to(device, empty.dtype).contiguous()
    module.load_state_dict(ready, assign=True)


def restore(make: Callable[[], Network], tensors: Mapping[str, Tensor], source: str) -> Network:
    """A frozen network that holds these tensors.

    Args:
        make: builds it. It is called on the device "meta", so that nothing is allocated and drawn at random
            only to be replaced, and a header that claims an enormous network costs no memory.
        source: what to call the file in errors.

    Raises:
        CheckpointError: no such network can be; or names the missing, unexpected and misshapen tensors.
    """
    network = unfilled(make, len(tensors), source)
    load_strict(network, tensors, source)
    return network.eval().requires_grad_(False)


def unfilled(make: Callable[[], Network], n_tensors: int, source: str) -> Network:
    """A network without numbers, to be given those of a file that has so many tensors.

    Raises:
        CheckpointError: no such network can be, or it has far more tensors.
    """
    try:
        with torch.device("meta"), claims.at_most(n_tensors):
            return make()
    except (RuntimeError, TypeError, ValueError, ArithmeticError) as error:  # sizes of no meaning
        raise CheckpointError(
            f"{source} describes a network that cannot be built ({_first_sentence(error)}); get the file "
            "again"
        ) from None


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Identity of a set of tensors, whatever container they came in: names, dtypes, shapes, bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def file_sha256(path: str | os.PathLike) -> str:
    """sha256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()
