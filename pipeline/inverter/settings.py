"""An `Inverter`'s keywords -> a RunConfig; and errors that name keywords, where the command has flags."""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import Field, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from generators.files.checkpoint import CheckpointError
from pipeline.config import OF_LABELS, RunConfig
from pipeline.errors import ConfigError
from pipeline.storage.lists import between_commas

# What decides how rows are stored, or comes with shards.
NOT_FOR_PHOTOS = {
    "latent_dtype",
    "save_images",
    "keep_fields",
    "labels",
    "auto",
    "clips",
    *OF_LABELS,
}
# A flag in a message, and its value where that is a number or one of these words.
FLAG = re.compile(
    r"--([a-z][a-z-]*[a-z])(?: (\d[\d.]*(?![\w.])|(?:N|auto|fast|best|none|face|fp32|bf16)\b))?"
)


def run_config(**keywords: Any) -> RunConfig:
    """The RunConfig of these fields, each checked as the command line checks its flags.

    Raises:
        ConfigError: an unknown field, or a value that it cannot have.
    """
    known = {one.name: one for one in fields(RunConfig) if one.name not in NOT_FOR_PHOTOS}
    for name in keywords:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(known)}"
            raise ConfigError(f"there is no setting {name!r}; {hint}")
    types = get_type_hints(RunConfig)
    return RunConfig(**{k: _value(known[k], types[k], v) for k, v in keywords.items()})


def _value(of: Field, type_: Any, given: Any) -> Any:
    words = of.metadata.get("words") or {}
    if isinstance(given, os.PathLike):
        given = os.fspath(given)
    if isinstance(given, str) and given in words:
        return words[given]
    if given is None and type(None) in get_args(type_):
        return None
    if get_origin(type_) is Literal:
        is_right, wanted = given in get_args(type_), _either(get_args(type_))
    elif type_ is int:
        is_right = isinstance(given, int) and not isinstance(given, bool)
        wanted = _either(["a whole number", *words])
        wanted = wanted.replace("'a whole number'", "a whole number")
    elif float in (type_, *get_args(type_)):
        is_right, wanted = _is_number(given), "a number"
    elif of.name == "metrics":
        return tuple(between_commas(given)) if isinstance(given, str) else tuple(given)
    else:
        is_right, wanted = isinstance(given, str), "a path"
    if not is_right:
        raise ConfigError(f"{of.name!r} must be {wanted}, not {given!r}")
    return given


def _is_number(given: Any) -> bool:
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    return is_number and math.isfinite(given)


def _either(words: Any) -> str:
    *others, last = map(repr, words)
    return f"{', '.join(others)} or {last}" if others else last


@contextmanager
def naming_keywords() -> Iterator[None]:
    """Errors that users can fix speak of ``steps=1``, where the command line has ``--steps 1``."""
    try:
        yield
    except (ConfigError, CheckpointError) as error:
        text = FLAG.sub(_keyword, str(error))
        if text == str(error):
            raise
        raise type(error)(text) from None


def _keyword(flag: re.Match[str]) -> str:
    name, value = flag[1].replace("-", "_"), flag[2]
    if value is None:
        return repr(name)
    return f"{name}={value}" if value == "N" or value[0].isdigit() else f'{name}="{value}"'
