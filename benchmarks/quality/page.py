"""A record and its pictures -> the page, and what it shows."""

from __future__ import annotations

from pathlib import Path

import jinja2

from benchmarks.quality import figures, pictures, robustness
from benchmarks.quality.choices import EDIT, MOST, STRENGTH
from benchmarks.quality.methods import ENCODER_STEPS
from benchmarks.quality.pictures import Pictures
from benchmarks.quality.portraits import REGIONS
from benchmarks.quality.record import NAMES, Record
from benchmarks.quality.targets import SHOWN
from pipeline.config import AUTO_GAIN, REFINE

FOLDER, NOTES, DESCENTS = "quality", "notes.md", "descents.md"
_TEMPLATE = Path(__file__).parent / "page.md.jinja"


def write(record: Record, shown: Pictures, out: Path) -> Path:
    """``out/quality.md`` and, in ``out/quality/``, its charts and sheets; returns the page's path.

    A `notes.md` in that folder is put under the targets: the reasons, which no number tells. The table of
    `benchmarks.descents` is put under the methods, where it is in that folder.
    """
    folder = out / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name, chart in figures.charts(record).items():
        chart.save(folder / f"{name}.svg")
    pictures.save(shown, folder)
    notes = folder / NOTES
    page = out / "quality.md"
    texts = [path.read_text() if path.exists() else "" for path in (notes, folder / DESCENTS)]
    page.write_text(markdown(record, *texts))
    return page


def markdown(record: Record, notes: str = "", descents: str = "") -> str:
    environment = jinja2.Environment(
        trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = environment.from_string(_TEMPLATE.read_text())
    return template.render(
        record=record,
        notes=notes.strip(),
        descents=descents.strip(),
        names=NAMES,
        regions=REGIONS,
        units=robustness.UNITS,
        undisturbed=[row for row in record.robustness if not row.strength],
        disturbed=[row for row in record.robustness if row.strength],
        attributes=list(SHOWN.values()),
        five=ENCODER_STEPS,
        refine=REFINE,
        gain=AUTO_GAIN,
        most=MOST,
        edit=EDIT,
        strength=STRENGTH,
    )
