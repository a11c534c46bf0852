"""What a run leaves in `_run/`: settings, shards, heartbeats."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

from benchmarks.fuzz import folders
from benchmarks.fuzz.damage import json_damaged
from benchmarks.fuzz.folders import Files
from benchmarks.fuzz.kinds import Kind


def _write(draw: Random, given: Path, made: dict[str, Files]) -> None:
    files = folders.chosen(draw, made)
    names = [name for name in files if name.startswith("_run/")]
    for name in draw.sample(names, draw.choice((1, 1, 2))):
        text = json_damaged(draw, json.loads(files[name]))
        files[name] = text.encode(errors="surrogatepass")
    if draw.random() < 0.2:  # a run that is not over: nothing was written yet
        for name in [name for name in files if name.endswith(".parquet")]:
            if draw.random() < 0.7:
                del files[name]
    folders.put(files, given / "lat")


KIND = Kind("run_files", folders.originals, _write, folders.words, folders.READERS)
