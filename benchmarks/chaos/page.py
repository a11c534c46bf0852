"""The table of docs/reliability.md, from the numbers of `make chaos` and of the fuzzer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "reliability.md"
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- made by `make chaos`: begin -->", "<!-- end -->"


def write(path: Path = PAGE) -> None:
    """Put the newest numbers between the markers of the page."""
    text = path.read_text()
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    path.write_text(f"{before}{BEGIN}\n{section()}{END}{after}")


def section() -> str:
    """What stands between the markers."""
    chaos = json.loads((RESULTS / "chaos.json").read_text())
    lines = [
        f"{chaos['n_shards']} shards of {chaos['n_samples']} samples, a 64 px model, on {chaos['machine']}; "
        f"seed {chaos['seed']}, {chaos['minutes']:.0f} minutes.",
        "",
        "| fault | times | jobs | rows lost | rows twice or other | files equal to the byte |",
        "|---|---|---|---|---|---|",
    ]
    lines += [_row(trial, chaos["n_shards"]) for trial in chaos["trials"]]
    lines += _fuzzed()
    return "\n".join(lines) + "\n"


def _fuzzed() -> list[str]:
    """A line on damaged input, where `python -m benchmarks.fuzz media` has left its numbers."""
    path = RESULTS / "fuzz.json"
    if not path.exists():
        return []
    record = json.loads(path.read_text())
    parts = [
        f"{record[kind]['n']:,} {kind}, {len(record[kind]['failures']) or 'none'} of them with a row lost or "
        "an error that was not foreseen"
        for kind in ("tars", "pictures")
    ]
    return ["", f"Damaged input (`python -m benchmarks.fuzz media`): {'; '.join(parts)}."]


def _row(trial: dict[str, Any], n_shards: int) -> str:
    if "skipped" in trial:
        return f"| {trial['what']} | not run: {trial['skipped']} | | | | |"
    other = trial["n_different"] + trial["n_surplus"] + trial["n_problems"]
    identical = f"{trial['n_identical']} of {n_shards}"
    what = trial["what"].rstrip(".")
    if trial.get("slowest_s"):
        what += f" (ends within {trial['slowest_s']:.0f} s)"
    jobs, times = trial["n_jobs"], trial["n_injected"]
    lost = "none" if not trial["n_missing"] else f"{trial['n_missing']} shards"
    return f"| {what} | {times} | {jobs} | {lost} | {other or 'none'} | {identical} |"
