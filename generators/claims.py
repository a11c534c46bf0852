"""What a file claims of a network, judged before anything of that size is made."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.nn.modules import module

# Far beyond any network there is: of vectors, feature maps and style vectors.
MAX_WIDTH = 1 << 13
MAX_STYLES = 100
# More tensors than a file has make the file unfit; some are let through, so that they are named.
SLACK = 1000
MODULES_PER_TENSOR = 20


def require_int(name: str, value: Any, least: int, most: int) -> None:
    """Raise a ValueError unless a value is a whole number in these bounds."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(
            f"{name} must be a whole number from {least} to {most}, not {shown(value)}"
        )


def require_positive(name: str, value: Any) -> None:
    """Raise a ValueError unless a value is a number above 0, and not infinity."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value <= 1e30 or not math.isfinite(1 / value):
        raise ValueError(f"{name} must be a number above 0, not {shown(value)}")


def require_sizes(name: str, values: Any, most: int) -> tuple[int, ...]:
    """The values as a tuple; a ValueError unless they are a list of whole numbers from 1 to ``most``."""
    if not isinstance(values, list | tuple):
        raise ValueError(f"{name} must be a list of whole numbers, not {shown(values)}")
    for value in values:
        require_int(name, value, 1, most)
    return tuple(values)


def require_class_names(values: Any, n: int) -> tuple[str, ...]:
    """The names of ``n`` classes as a tuple; a ValueError unless each has one of its own, or none has any."""
    if not isinstance(values, list | tuple) or not all(isinstance(v, str) for v in values):
        raise ValueError("class_names must be a list of texts")
    if values and (len(values) != n or len(set(values)) != n):
        raise ValueError(f"{len(set(values))} different class_names for {n} classes (c_dim)")
    return tuple(values)


def require_labels(labels: Tensor | None, n: int, c_dim: int, kind: str) -> None:
    """Raise a ValueError unless a network of this kind takes these labels of ``n`` samples."""
    if labels is None:
        if c_dim:
            raise ValueError(
                f"this {kind} is conditional: pass labels [{n}, {c_dim}], one-hot or a "
                "mixture (zeros are no class)"
            )
    elif not c_dim:
        raise ValueError(f"this {kind} takes no labels; leave them out")
    elif labels.shape != (n, c_dim):
        raise ValueError(f"labels must be [{n}, {c_dim}], not {list(labels.shape)}")


def shown(value: Any) -> str:
    """A value for a message, whatever its size."""
    if isinstance(value, int) and value.bit_length() > 100:
        return "one of more than 30 digits"
    if isinstance(value, str | int | float | None):
        return repr(value[:40] if isinstance(value, str) else value)
    return f"a {type(value).__name__}"


@contextmanager
def at_most(n_tensors: int) -> Iterator[None]:
    """Modules that are made inside, in this thread, have no more tensors than about so many.

    A description of some bytes may ask for a million layers; also without memory each takes its time.

    Raises:
        ValueError: they have.
    """
    thread = threading.get_ident()
    left = {"tensor": 2 * n_tensors + SLACK, "module": MODULES_PER_TENSOR * n_tensors + SLACK}

    def count(kind: str) -> None:
        if threading.get_ident() != thread:
            return
        left[kind] -= 1
        if left[kind] < 0:
            raise ValueError(f"it would have far more tensors than the {n_tensors} of the file")

    hooks = [
        module.register_module_parameter_registration_hook(lambda *_: count("tensor")),
        module.register_module_buffer_registration_hook(lambda *_: count("tensor")),
        module.register_module_module_registration_hook(lambda *_: count("module")),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
