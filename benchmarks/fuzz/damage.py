"""Damage drawn at random: of bytes, and of JSON."""

from __future__ import annotations

import copy
import json
import struct
from random import Random
from typing import Any

# What stands where something else is expected. The digits are put in later: Python writes no such number.
DIGITS = "@5000 digits@"
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 7, 255, 2**31, 2**63, 10**400, -(2**63) - 1, 0.5, -0.0, 1e308,
    float("nan"), float("inf"), float("-inf"), DIGITS, "", "x", "x" * 100_000, "\ud800", "a\nb",
    "\x1b[2J\x07", "\0", "../../x", "/etc/passwd", "s3://bucket/x.tar", "pipe:touch ran", "demo",
    "nan", "1e999", [], [[]], [None], [0] * 5000, {}, {"": None}, {"x": {"x": {}}}, ["ok"],
    {"ok": -1}, {"ok": "many"}, "2026-12-01T11:52:08Z",
)  # fmt: skip
NUMBERS = (
    0,
    1,
    0x7F,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    2**62,
    2**63,
    2**64 - 1,
)


def damaged(draw: Random, data: bytes, first: float = 0.0) -> bytes:
    """Bytes after one to four changes, none of them before this part of the whole."""
    for _ in range(draw.choice((1, 1, 1, 2, 3, 4))):
        at = int((first + draw.random() * (1 - first)) * len(data))
        data = _changed(draw, data, at)
    return data


def _changed(draw: Random, data: bytes, at: int) -> bytes:
    n = draw.choice((1, 2, 8, 100, 1000))
    kind = draw.choice(
        ("flip", "flip", "number", "cut", "insert", "drop", "repeat", "zero", "same")
    )
    if kind == "flip":
        return (
            data[:at]
            + bytes(b ^ draw.randrange(1, 256) for b in data[at : at + 1])
            + data[at + 1 :]
        )
    if kind == "number":
        size = draw.choice((4, 8))
        number = draw.choice(NUMBERS) & (2 ** (8 * size) - 1)
        return data[:at] + struct.pack("<I" if size == 4 else "<Q", number) + data[at + size :]
    if kind == "cut":
        return data[:at]
    if kind == "insert":
        return data[:at] + draw.randbytes(n) + data[at:]
    if kind == "drop":
        return data[:at] + data[at + n :]
    if kind == "repeat":
        return data[: at + n] + data[at:]
    if kind == "zero":
        return data[:at] + bytes(len(data[at : at + n])) + data[at + n :]
    other = draw.randrange(len(data) + 1)  # bytes of elsewhere in the same file
    return data[:at] + data[other : other + n] + data[at + n :]


def json_damaged(draw: Random, value: Any) -> str:
    """JSON of a value with one to four entries that are others; or a text that is hardly JSON any more."""
    kind = draw.random()
    if kind < 0.1:
        return damaged(draw, json.dumps(value).encode()).decode(errors="replace")
    if kind < 0.13:
        return draw.choice(("[", '{"x":', "[[{}],")) * draw.choice((100, 100_000))
    if kind < 0.2:
        return _text(draw.choice(VALUES))
    value = copy.deepcopy(value)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        value = _replaced(draw, value)
    return _text(value)


def _text(value: Any) -> str:
    return json.dumps(value).replace(f'"{DIGITS}"', "9" * 5000)


def _values() -> tuple[Any, ...]:
    """Of its own, for what is put in may be changed further."""
    return copy.deepcopy(VALUES)


def _replaced(draw: Random, value: Any) -> Any:
    """The same with another value somewhere; the deeper ones are as likely as the others."""
    keys = (
        list(value)
        if isinstance(value, dict)
        else list(range(len(value)))[:50]
        if value and isinstance(value, list)
        else []
    )
    if not keys or draw.random() < 0.1:
        return draw.choice((*_values(), [value], {"x": value}, str(value)[:1000]))
    key = draw.choice(keys)
    if draw.random() < 0.1:
        del value[key]
    elif draw.random() < 0.05 and isinstance(value, dict):
        value[draw.choice(("", "x", "\ud800", "url", "identity"))] = draw.choice(_values())
    else:
        value[key] = _replaced(draw, value[key])
    return value
