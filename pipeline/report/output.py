"""Where a page is written to, and how many pictures it takes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from generators.files import atomic
from pipeline.storage import outputs

if TYPE_CHECKING:
    from pipeline.report.page import Card, Content

# A page that a browser opens at once and a mail takes along stays under 20 MB; the rest of it is
# small beside pictures.
MAX_PICTURE_BYTES = 18_000_000


class Sized(Protocol):
    """Something with pictures."""

    @property
    def n_bytes(self) -> int: ...


T = TypeVar("T")


def share(cards: Sequence[Sized]) -> float:
    """How much of these fit into a page, 1 where all do."""
    return min(1.0, MAX_PICTURE_BYTES / max(1, sum(card.n_bytes for card in cards)))


def evenly(cards: Sequence[T], share: float) -> list[T]:
    """A share of some cards, from their beginning to their end."""
    n = int(len(cards) * share)
    return [cards[i * len(cards) // n] for i in range(n)]


def fit(content: Content, cards: Sequence[Card], failures: Sequence[Card]) -> None:
    """Put as many of them into the page as keep it small, and say so where that is not all."""
    kept = share([*cards, *failures])
    content.cards, content.failures = evenly(cards, kept), evenly(failures, kept)
    if kept < 1:
        content.notes.append(
            f"Pictures of {len(cards)} images would make this page larger than 20 MB, so it shows those of "
            f"{len(content.cards)}."
        )


def writable(out: str | os.PathLike[str]) -> Path:
    """The path to write to, once it is known that this will work: drawing takes a while.

    Raises:
        ConfigError: it will not.
    """
    return outputs.writable_file(out, "report.html")


def put(goal: Path, data: bytes) -> None:
    """Whole or not at all: a browser may be showing the page before.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        atomic.write_bytes(goal, data)
    except OSError as error:
        raise outputs.not_writable(goal, error) from None
