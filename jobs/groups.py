"""Commands by their names: a wrong name is answered with the one that is like it."""

from __future__ import annotations

import difflib

import click

from jobs import completion


class Commands(click.Group):
    """A group whose commands a shell completes without what takes them seconds to load."""

    words: tuple[str, ...] = ()  # between `restyle` and the names of these commands

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name, while a shell completes a quick stand-in; click calls this."""
        quick = completion.stand_in(*self.words, cmd_name) if ctx.resilient_parsing else None
        return quick or self.named(ctx, cmd_name)

    def named(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command itself."""
        return super().get_command(ctx, name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Name, command and the words for it; click calls this."""
        name, known = args[0], self.list_commands(ctx)
        if name not in known and not name.startswith("-") and not ctx.resilient_parsing:
            near = difflib.get_close_matches(name, known, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(f"No such command {name!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)
