"""Objects of Python's and numpy's that training programs leave among their settings, read as plain data.

stylegan3-editing keeps paths (``pathlib``) in its ``opts``; others keep numbers and arrays of numpy. None of
their classes is made: what stands in for them here is a text, a number, or nothing that counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

MAX_PATH = 4096  # letters
_CODES = {f"{kind}{size}" for kind in "fiu" for size in (2, 4, 8)} | {"i1", "u1", "b1"}


def path(*parts: Any) -> str:
    """Stands in for a path: its parts with slashes between them."""
    if not all(isinstance(part, str) for part in parts) or sum(map(len, parts)) > MAX_PATH:
        return "(a path)"
    return "/".join(parts).replace("//", "/", 1)


class DType:
    """Stands in for ``numpy.dtype``."""

    def __init__(self, code: Any = "", *_: Any) -> None:
        self.code = code if isinstance(code, str) and code in _CODES else ""
        self.order = "<"

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and ">" in state[1:2]:
            self.order = ">"


class Array:
    """Stands in for ``numpy.ndarray``, whose numbers nobody needs here."""

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __repr__(self) -> str:
        return "(an array)"


def array(*_: Any) -> Array:
    """Stands in for the function that numpy's arrays are made by."""
    return Array()


def scalar(dtype: Any, data: Any = b"") -> Any:
    """Stands in for the function that numpy's numbers are made by: a number of Python's."""
    known = isinstance(dtype, DType) and dtype.code and isinstance(data, bytes)
    if not known or len(data) != np.dtype(dtype.code).itemsize:
        return "(a number)"
    return np.frombuffer(data, f"{dtype.order}{dtype.code}")[0].item()


_KINDS = ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path", "PurePath")
STAND_INS: dict[str, Callable[..., Any]] = {
    **{f"{module}.{kind}": path for module in ("pathlib", "pathlib._local") for kind in _KINDS},
    "numpy.dtype": DType,
    "numpy.ndarray": Array,
    **{
        f"{package}.multiarray.{name}": function
        for package in ("numpy.core", "numpy._core")
        for name, function in (("scalar", scalar), ("_reconstruct", array))
    },
    **{f"numpy.dtypes.{name}DType": DType for name in ("Float32", "Float64", "Int64", "Bool")},
}
