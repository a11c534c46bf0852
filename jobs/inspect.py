"""``restyle inspect``: what a checkpoint file is."""

from __future__ import annotations

import click


@click.command(epilog="Example: restyle inspect restyle_psp_ffhq_encode.pt")
@click.argument("file")
def inspect(file: str) -> None:
    """Tell what FILE is (an encoder or a generator, or demo) and what is needed to run it."""
