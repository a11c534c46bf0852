"""Options and words that several commands have alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click


def words(text: str) -> tuple[str, ...]:
    """Comma-separated words; none for an empty text."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def numbers(text: str, option: str) -> tuple[float, ...]:
    """Comma-separated numbers."""
    try:
        return tuple(float(word) for word in words(text))
    except ValueError:
        raise click.BadParameter(
            f"numbers with commas between them, not {text!r}", param_hint=option
        ) from None


class BatchSize(click.ParamType):
    """A whole number of at least 1, or auto, which is None."""

    name = "batch size"

    def convert(self, value: Any, *context: Any) -> int | None:
        if value == "auto":
            return None
        if not str(value).isdecimal() or int(value) < 1:
            self.fail(f"auto, or a whole number of at least 1, not {value}", *context)
        return int(value)


def drawing(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options of the commands that draw latents: which generator, how exactly, how many together."""
    options = (
        click.option(
            "--model", help="Where the encoder checkpoint is now. Default: where the run had it."
        ),
        click.option("--generator", help="The same for a generator file of its own."),
        click.option(
            "--precision",
            type=click.Choice(["fp32", "tf32", "bf16", "fp16"]),
            default="fp32",
            show_default=True,
            help="Of the generator; latents stay as they are.",
        ),
        click.option(
            "--batch-size",
            type=click.IntRange(min=1),
            default=8,
            show_default=True,
            help="Pictures drawn together.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command
