"""The page of a folder of edits: each source row once, with its edits by direction and strength."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.models import LatentRenderer
from pipeline.report import drawing, output, pictures, source, unedited
from pipeline.report.choice import choose
from pipeline.report.page import Card, Content
from pipeline.report.pictures import Thumbnail
from pipeline.report.source import Run


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
    before = _unedited(rows[: len(numbers)], run, renderer)
    if shown and renderer is not None and 0 not in run.strengths and not any(before):
        content.notes.append(
            "The inversions that were edited are missing here: the folder that they lie in has moved or "
            "changed. Edits with several strengths bring them along, such as --strengths=0,2."
        )
    cards = []
    for i in range(len(shown)):
        of_row = iter(drawn[i * n : (i + 1) * n])
        edits = [(name, [next(of_row) for _ in run.strengths]) for name in run.directions]
        cards.append(Card(of_source[i], seen[i], edits=edits, unedited=before[i]))
    failures = [
        Card(*failed) for failed in zip(of_source[len(shown) :], seen[len(shown) :], strict=True)
    ]
    output.fit(content, cards, failures)


def _unedited(
    rows: Sequence[Mapping[str, Any]], run: Run, renderer: LatentRenderer | None
) -> list[Thumbnail | None]:
    """The picture of each source row before its edits; None where it cannot be had, or is among them."""
    pictures: list[Thumbnail | None] = [None] * (len(rows) // run.n_edits)
    if renderer is None or 0 in run.strengths:
        return pictures
    latents = unedited.latents(run, rows)
    known = [i for i, latent in enumerate(latents) if latent is not None]
    if known:
        stacked = np.stack([latent for latent in latents if latent is not None])
        for i, picture in zip(known, drawing.draw(renderer, stacked), strict=True):
            pictures[i] = picture
    return pictures


def _outcomes(statuses: np.ndarray) -> np.ndarray:
    """Of each source row [N, n_edits]: ok where one edit is at least."""
    return np.where((statuses == "ok").any(axis=1), "ok", statuses[:, 0])
