"""``restyle train``: the commands that train. Each is loaded when it is called, for torch takes seconds."""

from __future__ import annotations

from importlib import import_module

import click

COMMANDS = ("encoder", "generator", "distil")


class _Lazy(click.Group):
    """Commands by their names, loaded one by one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return getattr(import_module(f"jobs.train.{cmd_name}"), cmd_name)


@click.command(cls=_Lazy, epilog="Example: restyle train encoder --help")
def train() -> None:
    """Train an encoder, a generator, or both from a renderer, on your own shards."""
