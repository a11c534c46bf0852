"""The table of docs/reliability.md, from the records of what was tried."""

from __future__ import annotations

import re

from benchmarks.fuzz import record
from benchmarks.fuzz.outcome import NAMES, ROOT

PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- fuzzed: begin -->", "<!-- fuzzed: end -->"


def table() -> str:
    """A line for each kind that was tried."""
    lines = [
        "| kind | through the readers | read | refused | fell | through commands | fell |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind, shown in NAMES.items():
        read, run = _record(kind, "read"), _record(kind, "commands")
        counts = (read.n, read.by_outcome["read"], read.by_outcome["refused"])
        cells = [shown, *(f"{n:,}" for n in counts), _fell(read), f"{run.n:,}", _fell(run)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _record(kind: str, way: str) -> record.Record:
    file = record.path(kind, way)
    return record.load(file) if file.exists() else record.Record(kind, way, 0)


def _fell(found: record.Record) -> str:
    if not found.n:
        return "not tried"
    return f"{found.by_outcome['fell']:,}" if found.by_outcome["fell"] else "none"


def write() -> None:
    """Put the table between its marks."""
    text = PAGE.read_text()
    made = f"{BEGIN}\n{table()}\n{END}"
    PAGE.write_text(
        re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: made, text, flags=re.S)
    )
    print(table())
