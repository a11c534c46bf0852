"""What a shell completes of commands whose flags bring torch, which takes seconds: read from a file.

``python -m jobs.completion_file`` writes the file anew from the commands; a test holds it equal to them.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import click

from jobs import paths

FILE = Path(__file__).with_name("completion.json")
# All that are built from configs which import torch.
COMMANDS = (
    ("edit",),
    ("interpolate",),
    ("render",),
    ("train", "encoder"),
    ("train", "generator"),
    ("train", "distil"),
)


def stand_in(*words: str) -> click.Command | None:
    """A command that takes the same arguments and does nothing; None where the command itself is quick."""
    if words not in COMMANDS:
        return None
    return click.Command(
        words[-1], params=[_parameter(one) for one in _recorded()[" ".join(words)]]
    )


def _parameter(entry: dict[str, Any]) -> click.Parameter:
    given = dict(entry)
    names, completes = given.pop("names"), given.pop("completes", None)
    if isinstance(completes, list):
        given["type"] = click.Choice(completes)
    elif completes is not None:
        given["type"] = paths.FOLDER if completes == "dir" else paths.FILE
    if "nargs" in given:
        return click.Argument(names, required=False, **given)
    return click.Option([*names], **given)


@cache
def _recorded() -> dict[str, list[dict[str, Any]]]:
    return json.loads(FILE.read_text())
