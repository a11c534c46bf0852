"""``restyle train``: the commands that train. Each is loaded when it is called, for torch takes seconds."""

from __future__ import annotations

from importlib import import_module

import click

from jobs.groups import Commands

COMMANDS = ("encoder", "generator", "distil")


class _Lazy(Commands):
    """Commands by their names, loaded one by one."""

    words = ("train",)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def named(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        return getattr(import_module(f"jobs.train.{name}"), name)


@click.command(cls=_Lazy, epilog="Example: restyle train encoder --help")
def train() -> None:
    """Train an encoder, a generator, or both from a renderer, on your own shards."""
