"""The one place that makes text fit for a terminal: whoever made a file chose the names and texts in it."""

from __future__ import annotations

import unicodedata


def printable(text: object) -> str:
    """A text in one line that a terminal shows and does not obey.

    Control codes (colours, a title, a cleared screen, the beginning of the line), characters that turn the
    direction of writing or have no width, and halves of characters stand as Python writes them: ``\\x1b``.
    """
    line = str(text)
    if line.isprintable():
        return line
    return "".join(c if _is_shown(c) else c.encode("unicode_escape").decode() for c in line)


def _is_shown(character: str) -> bool:
    # Spaces of other scripts are "not printable" to Python, but harmless.
    return character.isprintable() or unicodedata.category(character) == "Zs"
