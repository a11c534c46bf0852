"""The numbers as tables of docs/editing.md, between its markers; the chart and the strip beside it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from benchmarks.editing.measure import LABELS, OTHERS, STRENGTHS, Edit
from benchmarks.quality import sheets
from benchmarks.quality.charts import Chart, Line

FOLDER = "editing"


def write(out: Path, blocks: dict[str, str]) -> Path:
    """Put each block between ``<!-- NAME -->`` and ``<!-- end -->``.

    Raises:
        ValueError: the page has no such place.
    """
    page = out / "editing.md"
    text = page.read_text()
    for name, block in blocks.items():
        place = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not place.search(text):
            raise ValueError(f"{page} has no place <!-- {name} --> ... <!-- end -->")
        text = place.sub(lambda found, block=block: f"{found[1]}{block}{found[2]}", text)
    page.write_text(text)
    return page


def effects(edits: Sequence[Edit]) -> str:
    """Directions against attributes."""
    names = [name.replace("_", " ") for name in (*LABELS, *OTHERS)]
    rows = [
        [edit.name.replace("_", " "), f"{edit.accuracy:.3f}"]
        + [_number(edit, name) for name in (*LABELS, *OTHERS)]
        for edit in edits
    ]
    return table(["direction", "held-out accuracy", *names], rows)


def ways(edits: Sequence[Edit]) -> str:
    """Other ways to learn one direction."""
    rows = [
        [
            edit.name,
            str(edit.n_rows),
            f"{edit.accuracy:.3f}",
            f"{edit.slopes['smile']:+.2f}",
            f"{_largest(edit)[1]:+.2f} ({_largest(edit)[0].replace('_', ' ')})",
        ]
        for edit in edits
    ]
    head = ["smile, learned", "rows", "held-out accuracy", "smile", "what else moves most"]
    return table(head, rows)


def save_pictures(out: Path, edits: Sequence[Edit], strips: Sequence[Sequence[Tensor]]) -> None:
    """Identity against strength, and a row of pictures [3, h, w] for each direction."""
    folder = out / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    lines = [Line(edit.name.replace("_", " "), STRENGTHS, edit.identity) for edit in edits]
    title = "Identity with the unedited reconstruction"
    Chart(title, "strength", "identity", lines).save(folder / "identity.svg")
    sheets.save(strips, folder / "strip.jpg")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _number(edit: Edit, attribute: str) -> str:
    text = f"{edit.slopes[attribute]:+.2f}"
    return f"**{text}**" if attribute == edit.name else text


def _largest(edit: Edit) -> tuple[str, float]:
    others = {name: value for name, value in edit.slopes.items() if name != "smile"}
    return max(others.items(), key=lambda item: abs(item[1]))
