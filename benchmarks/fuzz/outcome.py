"""What becomes of one input; imports nothing, for the process that only watches."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
# The kinds, and what the docs call them.
NAMES = {
    "parquet": "Parquet files: damaged bytes; other columns, types and shapes",
    "footers": "the JSON in their footers",
    "run_files": "`_run/*.json`: settings, shards, heartbeats",
    "checkpoints": "checkpoints: headers of `.safetensors`, pickles of `.pt` and `.pkl`, `.npy`",
    "options": "settings: options and arguments of the commands, lists in files",
}


@dataclass(frozen=True)
class Outcome:
    """What became of one input."""

    name: str  # "read", "refused" or "fell"
    place: str = ""  # of a fall: the error and the last line of the project
    text: str = ""
