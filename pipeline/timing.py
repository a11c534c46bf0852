"""How long runs took: one small record each time a run ends, beside what was asked for."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import fs as pafs

from pipeline import plan, storage
from pipeline.writer import RUN_FOLDER

if TYPE_CHECKING:
    from pipeline.driver import Summary

FOLDER = f"{RUN_FOLDER}/timings"


@dataclass(frozen=True)
class Timing:
    """Time of the rows that were timed: all of a run, but for parts that were killed."""

    n_samples: int
    n_rows: int
    n_ok: int
    wall_s: float  # while shards were worked on, without the start of Ray
    invert_s: float  # of the model alone, added up over the workers
    n_workers: int  # at most at once, with those that were replaced
    on_gpu: bool

    @property
    def samples_per_s(self) -> float:
        return self.n_samples / max(self.wall_s, 1e-9)

    @property
    def model_s_per_image(self) -> float:
        """Seconds of one worker's model for one inverted row, all steps."""
        return self.invert_s / max(1, self.n_ok)


def record(out: str, run: str, summary: Summary, wall_s: float) -> None:
    """Note what a run did, in a file of its own: two may end at once.

    A full disk ends no run that is done: then there is no record.

    Args:
        out: the run's folder.
        run: its fingerprint.
    """
    if not summary.n_shards:
        return
    content = {
        "fingerprint": run,
        "n_samples": summary.n_samples,
        "n_rows": summary.n_rows,
        "n_ok": summary.n_by_status["ok"],
        "wall_s": wall_s,
        "busy_s": dict(summary.seconds),
        "n_workers": len(summary.workers),
        "on_gpu": not any("gpu none" in worker for worker in summary.workers),
    }
    files, folder = storage.filesystem(out)
    with contextlib.suppress(OSError, pa.ArrowException):
        files.create_dir(f"{folder}/{FOLDER}")
        with files.open_output_stream(f"{folder}/{FOLDER}/{uuid.uuid4().hex}.json") as stream:
            stream.write(json.dumps(content, sort_keys=True).encode())


def read(out: str, run: str) -> Timing | None:
    """All records of a run added up; None where there is none (copied without them, or by hand)."""
    total: Counter[str] = Counter()
    n_workers, on_gpu = 0, True
    for content in _records(out):
        if content.get("fingerprint") != run:
            continue
        for name in ("n_samples", "n_rows", "n_ok", "wall_s"):
            total[name] += content[name]
        total["invert_s"] += content["busy_s"].get("invert", 0.0)
        n_workers = max(n_workers, content["n_workers"])
        on_gpu &= content["on_gpu"]
    if not total["n_rows"]:
        return None
    return Timing(**total, n_workers=n_workers, on_gpu=on_gpu)


def _records(out: str) -> Iterator[dict[str, Any]]:
    files, folder = storage.filesystem(out)
    where = pafs.FileSelector(f"{folder}/{FOLDER}", allow_not_found=True)
    for info in files.get_file_info(where):
        if info.base_name.endswith(".json"):
            yield plan.read_json(files, info.path)
