"""What a shell completes of commands whose flags bring torch, which takes seconds: read from a file.

``python -m jobs.completion`` writes the file anew from the commands; a test holds it equal to them.
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


def record(command: click.Command) -> list[dict[str, Any]]:
    """What a shell needs of a command's parameters."""
    context = click.Context(command, info_name=command.name)
    return [_entry(one, context) for one in command.get_params(context) if "--help" not in one.opts]


def _entry(parameter: click.Parameter, context: click.Context) -> dict[str, Any]:
    entry: dict[str, Any] = {"names": [*parameter.opts, *parameter.secondary_opts]}
    if isinstance(parameter, click.Argument):
        entry |= {"names": [parameter.name], "nargs": parameter.nargs}
    elif isinstance(parameter, click.Option):
        entry |= {"multiple": True} if parameter.multiple else {}
        entry |= {"help": parameter.help}
        if parameter.is_flag:
            on, off = parameter.opts, parameter.secondary_opts
            return entry | {"names": ["/".join([*on, *off])], "is_flag": True}
    items = parameter.type.shell_complete(context, parameter, "")
    if any(item.type in ("file", "dir") for item in items):
        return entry | {"completes": items[0].type}
    return entry | ({"completes": [item.value for item in items]} if items else {})


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


def recorded_anew() -> dict[str, list[dict[str, Any]]]:
    """The file's content, from the commands as they are."""
    from jobs.cli import cli

    found = {}
    for words in COMMANDS:
        command: click.Command = cli
        for word in words:
            assert isinstance(command, click.Group)
            inner = command.get_command(click.Context(command), word)
            assert inner is not None
            command = inner
        found[" ".join(words)] = record(command)
    return found


def as_text(commands: dict[str, list[dict[str, Any]]]) -> str:
    """JSON with a line for each parameter."""
    blocks = []
    for name, entries in commands.items():
        lines = ",\n  ".join(json.dumps(entry) for entry in entries)
        blocks.append(f" {json.dumps(name)}: [\n  {lines}\n ]")
    return "{\n" + ",\n".join(blocks) + "\n}\n"


if __name__ == "__main__":
    FILE.write_text(as_text(recorded_anew()))
