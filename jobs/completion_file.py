"""Writes what `jobs.completion` reads, from the commands as they are: ``python -m jobs.completion_file``."""

from __future__ import annotations

import json
from typing import Any

import click

from jobs.cli import cli
from jobs.completion import COMMANDS, FILE


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


def recorded_anew() -> dict[str, list[dict[str, Any]]]:
    """The file's content, from the commands as they are."""
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
