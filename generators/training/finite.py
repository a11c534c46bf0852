"""Losses that are no numbers: found where they are computed, and told when a batch is done.

A trainer that looks at each loss waits for the device each time, and the device for it. Here a flag on
the device holds back the updates instead, and all that was computed is fetched at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from generators.training.protocol import NotFinite


class Optimizer(Protocol):
    """What makes an update; torch's Adam, or Lookahead around another one."""

    @property
    def param_groups(self) -> list[dict[str, Any]]: ...
    def step(self) -> Any: ...


class _Value(NamedTuple):
    """A scalar on its way from the device."""

    name: str
    value: Tensor
    message: str | None  # of the error where it must be finite and is not
    n_updates: int  # that came before it


class FiniteCheck:
    """The values of one batch, and the updates that depend on their being finite."""

    def __init__(self, device: torch.device) -> None:
        self.failed = torch.zeros((), device=device)  # 1 after the first that is not finite, or 0
        self.n_updates = 0  # that were made; exact once the values were fetched
        self._pending: list[_Value] = []
        self._fetched: dict[str, float] = {}

    def report(self, values: Mapping[str, Tensor]) -> None:
        """Scalars to be fetched, whatever they are."""
        for name, value in values.items():
            self._pending.append(_Value(name, value.detach().float(), None, self.n_updates))

    def expect(self, values: Mapping[str, Tensor], message: str) -> None:
        """Scalars that must be finite for the next update, or any after it, to be made.

        Args:
            message: of the error for the first that is not; {name} and {value} are its own, {values}
                what was reported before.
        """
        for name, tensor in values.items():
            value = tensor.detach().float()
            self.failed = torch.maximum(self.failed, value.isfinite().logical_not().float())
            self._pending.append(_Value(name, value, message, self.n_updates))

    def step(self, optimizer: Optimizer) -> None:
        """One update, which leaves weights, moments and counters as they are where a value is not finite.

        Fused Adam decides that on the device. For any other optimizer the values are fetched first.

        Raises:
            NotFinite: see `fetch`.
        """
        if optimizer.param_groups[0].get("fused"):
            optimizer.found_inf = self.failed  # type: ignore[attr-defined]
        else:
            self.fetch()
        optimizer.step()
        self.n_updates += 1

    def fetch(self) -> dict[str, float]:
        """What was reported, the latest of each name; waits for the device, unless there is nothing new.

        Raises:
            NotFinite: a value that must be finite is not. `n_updates` then counts the updates before it,
                which are those that were made.
        """
        pending, self._pending = self._pending, []
        if pending:
            numbers = torch.stack([each.value for each in pending]).tolist()
            for each, number in zip(pending, numbers, strict=True):
                if each.message is None:
                    self._fetched[each.name] = number
                elif not math.isfinite(number):
                    self.n_updates = each.n_updates
                    raise NotFinite(self._message(each.message, each.name, number))
        return self._fetched

    def _message(self, message: str, name: str, value: float) -> str:
        values = ", ".join(f"{name} {value:g}" for name, value in self._fetched.items())
        return message.format(name=name, value=value, values=values)
