"""``restyle models``: the published checkpoints, where they are and what uses them; asks no server."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

import click
from click.shell_completion import CompletionItem

from jobs import next_commands
from jobs.catalogue import CHECKPOINTS, Checkpoint, markdown
from jobs.printing import say


class _Name(click.ParamType):
    """A published file, with its suffix or without."""

    name = "name"

    def convert(self, value: Any, param: Any, ctx: Any) -> Checkpoint:
        """The checkpoint; click calls this."""
        named = [c for c in CHECKPOINTS if value in (c, c.name, c.name.rpartition(".")[0])]
        if not named:
            near = difflib.get_close_matches(value, [one.name for one in CHECKPOINTS], 1, 0.5)
            hint = f"did you mean {near[0]}?" if near else "`restyle models` lists those that are"
            self.fail(f"{value[:60]} is none of the published checkpoints; {hint}", param, ctx)
        return named[0]

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Their names; click calls this."""
        return [CompletionItem(c.name) for c in CHECKPOINTS if c.name.startswith(incomplete)]


@click.command(epilog="Example: restyle models restyle_psp_ffhq_encode")
@click.argument("name", required=False, type=_Name())
@click.option("--markdown", "as_markdown", is_flag=True, help="As the table of docs/models.md.")
def models(name: Checkpoint | None, as_markdown: bool) -> None:
    """List the checkpoints that others publish, or say all about the one with NAME.

    Their authors publish them, and nobody may ship them with this project: NAME says where to get one,
    under which licence, what to expect of it, and the commands that use it.
    """
    if as_markdown:
        say(*markdown().splitlines())
    elif name is None:
        say(*_table())
    else:
        say(*_details(name))


def _table() -> Iterator[str]:
    widths = [
        max(len(text) for text in texts) for texts in zip(*map(_row, CHECKPOINTS), strict=True)
    ]
    for one in CHECKPOINTS:
        row = zip(_row(one), widths, strict=True)
        yield "  ".join(text.ljust(width) for text, width in row).rstrip()
    yield ""
    yield "demo comes with the package, and draws rendered portraits only"
    yield "restyle models NAME says where to get it, its licence, and the commands that use it"


def _row(one: Checkpoint) -> tuple[str, ...]:
    return one.name, one.domain, one.picture, one.method


def _details(one: Checkpoint) -> Iterator[str]:
    facts = {
        "method": one.method,
        "for": f"{one.domain}; draws {one.picture} px",
        "from": f'{one.home}, in its README: "{one.listed_as}"',
        "size": one.size,
        "licence": one.licence,
        "learned from": f"{one.learned_from}; docs/licences.md says what follows",
        "expect": one.expect,
        "takes": one.takes,
    }
    yield one.name
    yield from (f"{label:15} {text}" for label, text in facts.items() if text)
    yield from ("", f"restyle inspect {one.name}", *_commands(one))


def _commands(one: Checkpoint) -> Iterator[str]:
    if one.is_generator:
        yield from next_commands.of_generator(one.name)
    else:
        subject = "face" if one.align == "face" else "other"
        n_steps = 2  # one of each, as its authors have it
        yield from next_commands.of_inverter(
            one.name, subject, one.steps == 1, one.first, n_steps=n_steps
        )
        yield f"# {next_commands.FASTER}"
