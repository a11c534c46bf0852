"""NVIDIA's network pickles as descriptions: modules, their attributes and where their tensors lie.

github.com/NVlabs/stylegan2-ada-pytorch and github.com/NVlabs/stylegan3 pickle ``dict(G, D, G_ema, ...)`` of
modules that carry their own source code. That source is never touched: a module is read as its class name
and the state of its attributes. What the networks are is for :mod:`generators.files.nvidia` and
:mod:`generators.files.nvidia_stylegan3`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from generators import claims
from generators.files import checkpoint, pickled, torchfile
from generators.files.checkpoint import CheckpointError
from generators.files.pickled import DamagedPickle, Record, RefusedPickle, Span, Window
from generators.files.torchfile import StoredTensor

# Named in such files, and read as descriptions: see `numbers`.
_NAMES = frozenset(
    {
        "numpy.ndarray",
        "numpy.dtype",
        "numpy.core.multiarray._reconstruct",
        "numpy._core.multiarray._reconstruct",
    }
)
_MAX_DEPTH = 4  # synthesis.b64.conv0.affine
_MAX_MODULES = 1000
_MAX_NUMBERS = 16  # of an array among the attributes: heights and widths
_CODES = ("f4", "f8", "i4", "i8", "b1")


@dataclass(frozen=True)
class Module:
    """A pickled network or layer."""

    class_name: str
    state: Mapping[str, Any]  # its attributes

    def children(self, of: str) -> dict[str, Any]:
        """Its ``_modules``, ``_parameters`` or ``_buffers`` that are there."""
        children = self.state.get(of)
        return (
            {k: v for k, v in children.items() if v is not None}
            if isinstance(children, dict)
            else {}
        )


def _module(meta: Any) -> Module:
    """Stands in for ``torch_utils.persistence._reconstruct_persistent_obj``; ignores ``module_src``."""
    if not isinstance(meta, dict) or not isinstance(meta.get("state"), dict):
        raise DamagedPickle("a network without its state")
    return Module(str(meta.get("class_name")), meta["state"])


def _number(file: BinaryIO, dtype: Any, data: Any) -> float | int | bool:
    """Stands in for ``numpy.core.multiarray.scalar``: gains are numpy scalars."""
    code = _code(dtype)
    if code is None or not isinstance(data, Span) or data.length > 8:
        raise RefusedPickle(f"a numpy scalar of type {claims.shown(code)}")
    return np.frombuffer(_bytes(file, data), code)[0].item()


def numbers(value: Any, file: BinaryIO) -> list[float | int | bool]:
    """The numbers of a small numpy array, or of a list or tuple.

    Raises:
        DamagedPickle: it is none of them, or not small.
    """
    if isinstance(value, list | tuple) and len(value) <= _MAX_NUMBERS:
        return list(value)
    # (What numpy's arrays are set from: a version, the shape, the dtype, Fortran's order, the bytes.)
    state = value.state if isinstance(value, Record) else None
    if isinstance(state, tuple) and len(state) == 5:
        code, data = _code(state[2]), state[4]
        if code and isinstance(data, Span) and 0 < data.length <= 8 * _MAX_NUMBERS:
            return np.frombuffer(_bytes(file, data), code).tolist()
    raise DamagedPickle(f"a {type(value).__name__} where a few numbers must be")


def _code(dtype: Any) -> str | None:
    """numpy's short name of a type of numbers, with the order of its bytes."""
    code = dtype.args[0] if isinstance(dtype, Record) and dtype.args else None
    if not isinstance(code, str) or code not in _CODES:
        return None
    assert isinstance(dtype, Record)
    return (">" if isinstance(dtype.state, tuple) and ">" in dtype.state else "<") + code


def _bytes(file: BinaryIO, data: Span) -> bytes:
    return Window(file, data.start, data.start + data.length).read(data.length)


def _empty_dict(*args: Any) -> dict[Any, Any]:
    if args:
        raise RefusedPickle("a dict that is made from other objects")
    return {}


def _makers(file: BinaryIO) -> dict[str, Callable[..., Any]]:
    def storage(data: Span) -> torchfile.Storage:
        return torchfile.read_storage(Window(file, data.start, data.start + data.length))

    return {
        **torchfile.TENSOR_MAKERS,
        "torch_utils.persistence._reconstruct_persistent_obj": _module,
        "torch.storage._load_from_bytes": storage,
        "collections.OrderedDict": _empty_dict,
        "dnnlib.util.EasyDict": _empty_dict,
        "numpy.core.multiarray.scalar": partial(_number, file),
        "numpy._core.multiarray.scalar": partial(_number, file),
    }


def read_network(path: str | os.PathLike) -> Module:
    """``G_ema`` of a file, as a description; nothing is built and no tensor is read.

    Raises:
        CheckpointError: damaged, hostile, or another kind of pickle.
    """
    checkpoint.require_file(path)
    try:
        with open(path, "rb") as file:
            window = Window(file, 0, Path(path).stat().st_size)
            content = pickled.read(window, _makers(file), _NAMES)
    except RefusedPickle as error:
        if str(error).startswith("dnnlib.tflib."):
            raise CheckpointError(
                f"{path} is a TensorFlow network; convert it with legacy.py of "
                "github.com/NVlabs/stylegan2-ada-pytorch first"
            ) from None
        raise checkpoint.refused(path, error) from None
    except DamagedPickle as error:
        raise checkpoint.damaged(path, "NVIDIA pickle", error) from None
    network = content.get("G_ema") if isinstance(content, dict) else None
    if not isinstance(network, Module):
        members = ", ".join(map(str, list(content)[:6])) if isinstance(content, dict) else "no dict"
        raise CheckpointError(
            f"{path} has no network G_ema, so it is not an NVIDIA file ({members})"
        )
    return network


def walk(module: Module, name: str = "", depth: int = 0) -> dict[str, Module]:
    """Every module below, by its dotted name."""
    modules = {name: module}
    for child_name, child in module.children("_modules").items():
        if not isinstance(child, Module) or depth == _MAX_DEPTH:
            raise DamagedPickle(f"{name} holds something that is not a layer")
        modules |= walk(child, f"{name}.{child_name}".lstrip("."), depth + 1)
        if len(modules) > _MAX_MODULES:
            raise DamagedPickle(f"more than {_MAX_MODULES} layers")
    return modules


def tensors_of(modules: Mapping[str, Module]) -> dict[str, StoredTensor]:
    """Every parameter and buffer that is not None, by its dotted name."""
    tensors = {}
    for name, module in modules.items():
        for part in ("_parameters", "_buffers"):
            for key, tensor in module.children(part).items():
                if not isinstance(tensor, StoredTensor):
                    raise DamagedPickle(f"{name}.{key} is not a tensor")
                tensors[f"{name}.{key}".lstrip(".")] = tensor
    return tensors


def the_same(modules: Mapping[str, Module], kind: str, attribute: str) -> Any:
    """An attribute that all modules of a class must agree on."""
    values = {m.state.get(attribute) for m in modules.values() if m.class_name == kind}
    if len(values) != 1:
        raise DamagedPickle(f"{kind} layers with different values of {attribute}: {values}")
    return values.pop()
