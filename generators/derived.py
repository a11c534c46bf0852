"""What follows from a network's frozen tensors: made once, made again when they change, part of no file."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class Derived(Generic[T]):
    """Keeps what was made of tensors for as long as these are the same ones with the same values.

    An attribute that is no tensor and no module: neither in a ``state_dict``, nor hashed, nor in a copy. A
    change is noticed by torch's version counters, which count every change in place but those through
    ``.data``.
    """

    def __init__(self) -> None:
        self._state: tuple[Any, ...] = ()
        self._made: dict[Hashable, T] = {}

    def get(self, tensors: Iterable[Tensor], key: Hashable, make: Callable[[], T]) -> T:
        """What ``make`` gives, from memory where it can be: never of tensors that are being trained.

        Args:
            tensors: all that ``make`` depends on.
            key: what else it depends on.
        """
        tensors = list(tensors)
        if any(t.requires_grad or t.is_inference() for t in tensors):
            self._forget()
            return make()
        state = tuple((t.data_ptr(), t._version, t.dtype) for t in tensors)
        if state != self._state:
            self._forget()
            self._state = state
        if key not in self._made:
            # Usable for training something else too, which a tensor made in inference mode is not.
            with torch.inference_mode(False), torch.no_grad():
                self._made[key] = make()
        return self._made[key]

    def _forget(self) -> None:
        self._state, self._made = (), {}

    def __deepcopy__(self, memo: dict) -> Derived[T]:
        return Derived()

    def __reduce__(self) -> tuple:
        return Derived, ()
