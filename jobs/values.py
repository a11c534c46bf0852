"""Values of flags that are more than a text: bounded numbers, lists of them, numbers that have names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import click
from click.shell_completion import CompletionItem

MAX_WHOLE = 2**63 - 1
MAX_SHOWN = 60  # characters of a wrong value that a message repeats


class List(click.ParamType):
    """Values of one type with commas between them; of words also a list as ``@FILE``."""

    def __init__(self, of: type) -> None:
        self._of = of
        self.name = {int: "N,N,...", float: "X,X,..."}.get(of, "WORD,...")

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[Any, ...]:
        """The parsed value; click calls this."""
        if isinstance(value, tuple):
            return value
        if self._of is str:
            return self._words(value)
        try:
            return tuple(self._number(part.strip()) for part in value.split(",") if part.strip())
        except ValueError:
            example = "128,64,32" if self._of is int else "-2,2"
            shown = value if len(value) <= MAX_SHOWN else f"{value[:MAX_SHOWN]}…"
            self.fail(
                f"numbers with commas between them, such as {example}, not {shown!r}", param, ctx
            )

    def _number(self, text: str) -> Any:
        number = self._of(text)
        if not _is_usable(number):
            raise ValueError(text)
        return number

    @staticmethod
    def _words(value: str) -> tuple[str, ...]:
        from pipeline.storage import lists  # brings pyarrow

        if value.startswith("@"):
            return tuple(lists.in_file(value[1:]))
        return tuple(lists.between_commas(value))


def _is_usable(number: float) -> bool:
    """Whether a number is finite and fits into 64 bits, as whatever takes it wants."""
    return math.isfinite(number) if isinstance(number, float) else abs(number) <= MAX_WHOLE


class _Usable(click.ParamType):
    """A number that whatever takes it can hold; before the kind of number among the base classes."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """The parsed value; click calls this."""
        number = super().convert(value, param, ctx)
        if not _is_usable(number):
            self.fail(f"{str(value)[:MAX_SHOWN]} is too large, or not a number", param, ctx)
        return number


class Whole(_Usable, click.IntRange):
    """A whole number with bounds."""


class Finite(_Usable, click.FloatRange):
    """A number with bounds, which infinity and NaN are not."""


class AnyWhole(_Usable, click.types.IntParamType):
    """Any whole number."""


class AnyFinite(_Usable, click.types.FloatParamType):
    """Any number but infinity and NaN."""


class AutoInt(Whole):
    """A whole number, or auto, which is the same as not to pass the flag."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """The parsed value; click calls this."""
        if value == "auto":
            return None
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            shown = str(value)[:MAX_SHOWN]
            self.fail(f"auto, or a whole number of at least {self.min}, not {shown}", param, ctx)


class NamedInt(Whole):
    """A whole number, some of which have names."""

    def __init__(self, names: Mapping[str, int], least: int | None, most: int | None) -> None:
        super().__init__(least, most)
        self._names = names

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """The parsed value; click calls this."""
        if value in self._names:
            return self._names[value]
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            words = f"{', '.join(self._names)} or a whole number from {self.min} to {self.max}"
            self.fail(f"{words}, not {str(value)[:MAX_SHOWN]}", param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The names; click calls this."""
        return [CompletionItem(name) for name in self._names if name.startswith(incomplete)]
