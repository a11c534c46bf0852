"""What is measured, and on how much: the arguments of the command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.quality.settings import option

_RESULTS = Path(__file__).parent.parent / "results" / "editing.json"


@dataclass(frozen=True)
class Settings:
    """Everything that decides the numbers, and where they go."""

    model: str = option("demo", 'the ReStyle inverter: "demo", or a file')
    count: int = option(3000, "portraits to learn directions and the reading of attributes from")
    people: int = option(32, "other portraits, which are edited")
    seed: int = option(2_000_000_111, "of the portraits; the edited ones take it plus 200")
    keep: str | None = option(None, "folder that keeps portraits and latents for the next run")
    out: Path = option(Path("docs"), "folder with editing.md; its pictures go to editing/")
    results: Path = option(_RESULTS, "file that gets the numbers")
