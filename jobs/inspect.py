"""``restyle inspect``: what a checkpoint file is."""

from __future__ import annotations

import click

from jobs.printing import say


@click.command(epilog="Example: restyle inspect restyle_psp_ffhq_encode.pt")
@click.argument("file")
def inspect(file: str) -> None:
    """Say what FILE (an encoder, a generator, or demo) is and what is needed to run it.

    The file is read as data; nothing in it is executed.
    """
    from encoders import inspection

    for name, value in inspection.describe(file).items():
        say(f"{name:15} {value}")
