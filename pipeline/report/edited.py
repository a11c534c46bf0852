"""The page of a folder of edits: each source row once, with its edits by direction and strength."""

from __future__ import annotations

import numpy as np

from pipeline.models import LatentRenderer
from pipeline.report import drawing, output, pictures, source
from pipeline.report.choice import choose
from pipeline.report.page import Card, Content


def show(
    content: Content,
    renderer: LatentRenderer | None,
    limit: int,
    input_size: tuple[int, int],
    photos: str | None = None,
) -> None:
    """Read and draw at most ``limit`` edits, and as many of the source rows that failed."""
    run = content.run
    n = run.n_edits
    content.choice = choose(_outcomes(source.statuses(run).reshape(-1, n)), {}, max(1, limit // n))
    shown, failed = content.choice.shown, content.choice.failed
    numbers = [first * n + i for first in shown for i in range(n)]
    rows = source.rows(run, [*numbers, *(first * n for first in failed)])
    of_source = rows[: len(numbers) : n] + rows[len(numbers) :]
    seen = pictures.collect(of_source, input_size, content.notes, photos, run.recorded)
    drawn = [steps[0] for steps in drawing.steps(rows[: len(numbers)], renderer, 1)]
    cards = []
    for i in range(len(shown)):
        of_row = iter(drawn[i * n : (i + 1) * n])
        edits = [(name, [next(of_row) for _ in run.strengths]) for name in run.directions]
        cards.append(Card(of_source[i], seen[i], edits=edits))
    failures = [
        Card(*failed) for failed in zip(of_source[len(shown) :], seen[len(shown) :], strict=True)
    ]
    output.fit(content, cards, failures)


def _outcomes(statuses: np.ndarray) -> np.ndarray:
    """Of each source row [N, n_edits]: ok where one edit is at least."""
    return np.where((statuses == "ok").any(axis=1), "ok", statuses[:, 0])
