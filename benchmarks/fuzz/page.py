"""The table of docs/reliability_fuzz.md, from the records of what was tried."""

from __future__ import annotations

import re

from benchmarks.fuzz import record
from benchmarks.fuzz.outcome import NAMES, ROOT

PAGE = ROOT / "docs" / "reliability_fuzz.md"
BEGIN, END = "<!-- made by `python -m benchmarks.fuzz table`: begin -->", "<!-- end -->"


def table() -> str:
    """A line for each kind that was tried."""
    lines = [
        "| kind | through the readers | read | refused | fell | through commands | fell |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind, shown in NAMES.items():
        cells = [shown]
        for way in ("read", "commands"):
            file = record.path(kind, way)
            found = record.load(file) if file.exists() else record.Record(kind, way, 0)
            cells.append(f"{found.n:,}")
            cells += [
                f"{found.by_outcome[name]:,}" for name in ("read", "refused") if way == "read"
            ]
            cells.append(f"{found.by_outcome['fell']:,}" if found.by_outcome["fell"] else "none")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def write() -> None:
    """Put the table between its marks."""
    text = PAGE.read_text()
    made = f"{BEGIN}\n{table()}\n{END}"
    PAGE.write_text(
        re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: made, text, flags=re.S)
    )
    print(table())
