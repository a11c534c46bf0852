"""``restyle inspect``: what a checkpoint file is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from jobs import next_commands, paths
from jobs.printing import say

if TYPE_CHECKING:
    from encoders.inspection import Use


@click.command(epilog="Example: restyle inspect restyle_psp_ffhq_encode.pt")
@click.argument("file", type=paths.FILE)
def inspect(file: str) -> None:
    """Say what FILE (an encoder, a generator, or demo) is, and which command uses it.

    The file is read as data; nothing in it is executed. A .safetensors file may be an address, too:
    hf://owner/name/file.safetensors or https://host/file.safetensors.
    """
    from encoders import inspection

    for name, value in inspection.describe(file).items():
        say(f"{name:15} {value}")
    say(*_commands(file, inspection.use(file)))


def _commands(file: str, use: Use) -> Iterator[str]:
    if use.kind == "inverter":
        hints = () if file == "demo" else (next_commands.FASTER,)
        if use.subject == "unknown":
            hints = ("of anything but photos with faces: add --align none", *hints)
        commands = [*next_commands.of_inverter(file, use.subject, use.one_step)]
    else:
        is_generator, hints = use.kind == "generator", ()
        of_kind = next_commands.of_kind(use.kind, file)
        commands = [*(next_commands.of_generator(file) if is_generator else of_kind)]
    if commands:
        yield from ("", *commands, *(f"# {hint}" for hint in hints))
