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


def layers(text: str | None) -> tuple[int, ...] | None:
    """``0-3,7``, both ends in; None for none given."""
    if text is None:
        return None
    found: set[int] = set()
    for part in words(text):
        first, _, last = part.partition("-")
        if not first.isdigit() or not (last or first).isdigit():
            raise click.BadParameter(f"such as 0-3,7, not {text!r}", param_hint="--layers")
        found |= set(range(int(first), int(last or first) + 1))
    return tuple(sorted(found))
