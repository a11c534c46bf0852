"""A comparison -> one HTML file, with the images in which runs differ."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline import report
from pipeline.report import charts as geometry
from pipeline.report import drawing, output, pictures, rendering, source
from pipeline.report.comparison import charts
from pipeline.report.comparison.choice import choose
from pipeline.report.comparison.core import Comparison
from pipeline.report.comparison.metrics import MetricComparison
from pipeline.report.comparison.runs import Compared
from pipeline.report.comparison.sign_test import p_text
from pipeline.report.metrics import Metric
from pipeline.report.page import anchors
from pipeline.report.pictures import Thumbnail


@dataclass(frozen=True)
class Value:
    """A metric of one image in one run."""

    text: str
    is_best: bool


@dataclass(frozen=True)
class Card:
    """One image in every run."""

    anchor: str  # by which a link opens it
    key: str
    place: str  # shard, sample and face, for people
    crop: Thumbnail | None
    drawn: Sequence[Thumbnail | None]  # by each run
    lines: Sequence[tuple[Metric, list[Value]]]
    values: Mapping[str, list[float | None]]  # by metric, one a run: what the gallery is sorted by

    @property
    def json(self) -> str:
        return json.dumps(self.values)

    @property
    def n_bytes(self) -> int:
        return sum(len(shown.uri) for shown in (self.crop, *self.drawn) if shown is not None)


def write(
    comparison: Comparison,
    out: str | os.PathLike[str],
    *,
    limit: int = 48,
    photos: str | None = None,
) -> list[str]:
    """Write the page; pictures are of at most ``limit`` images. Returns what it says is missing.

    Args:
        photos: folder or address of the shards; None: only unchanged files of this machine are read.

    Raises:
        ConfigError: it cannot be written.
    """
    goal = output.writable(out)
    notes = list(comparison.notes)
    cards = _cards(comparison, limit, notes, photos)
    text = rendering.page(
        "compare.html",
        styles=["style.css", "gallery.css", "compare.css"],
        scripts=["compare.js", "find.js", "enlarge.js"],
        found=comparison,
        cards=cards,
        notes=notes,
        charts=charts,
        geometry=geometry,
        p_text=p_text,
        seen="crop" if comparison.runs[0].run.settings["align"] == "face" else "input",
    )
    output.put(goal, text.encode())
    return notes


def _cards(comparison: Comparison, limit: int, notes: list[str], photos: str | None) -> list[Card]:
    chosen = choose(comparison.metrics, comparison.common.numbers.shape[1], limit)
    rows, drawn, input_size = [], [], report.DEFAULT_INPUT_SIZE
    for compared, numbers in zip(comparison.runs, comparison.common.numbers, strict=True):
        of_run = source.rows(compared.run, numbers[chosen].tolist(), ["latents_by_step"])
        rows.append(of_run)
        shown, size = _drawn(compared, of_run, notes)
        drawn.append(shown)
        input_size = size or input_size
    # Crops are those of the first run: all saw the same.
    seen = pictures.collect(rows[0], input_size, notes, photos, comparison.runs[0].run.recorded)
    cards = [
        _card(comparison, anchor, row, position, seen[i].crop, [of_run[i] for of_run in drawn])
        for i, (position, row, anchor) in enumerate(
            zip(chosen, rows[0], anchors(rows[0]), strict=True)
        )
    ]
    fitting = output.evenly(cards, output.share(cards))
    if len(fitting) < len(cards):
        notes.append(
            f"Of {len(cards)} images, {len(fitting)} are shown, so that the page stays small."
        )
    return fitting


def _drawn(
    compared: Compared, rows: Sequence[dict[str, Any]], notes: list[str]
) -> tuple[list[Thumbnail | None], tuple[int, int] | None]:
    """The last step of each row, saved or drawn, and what the encoder's input measures."""
    missing: list[str] = []
    renderer = drawing.load(compared.run, None, None, missing)
    notes += [
        f"{compared.name}: {note}".replace(", pass --model", ", use `restyle report`")
        for note in missing
    ]
    shown = [steps[0] for steps in drawing.steps(rows, renderer, 1)]
    return shown, None if renderer is None else renderer.input_size


def _card(
    comparison: Comparison,
    anchor: str,
    row: Mapping[str, Any],
    position: int,
    crop: Thumbnail | None,
    drawn: Sequence[Thumbnail | None],
) -> Card:
    values = {
        compared.metric.name: [
            v if math.isfinite(v) else None for v in compared.values[:, position].tolist()
        ]
        for compared in comparison.metrics
    }
    lines = [(compared.metric, _texts(compared, position)) for compared in comparison.metrics]
    return Card(anchor, row["key"], source.place(row), crop, drawn, lines, values)


def _texts(compared: MetricComparison, position: int) -> list[Value]:
    of_metric, values = compared.metric, compared.values[:, position].tolist()
    texts = [of_metric.text(value) for value in values]
    measured = [value for value in values if math.isfinite(value)]
    best = ""
    if len(set(texts)) > 1 and measured:
        best = of_metric.text((max if of_metric.higher_is_better else min)(measured))
    return [Value(text, text == best) for text in texts]
