"""Words of the command line that several commands take apart alike."""

from __future__ import annotations

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
