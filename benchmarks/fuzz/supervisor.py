"""Runs the process that tries inputs, and begins another where it died, hung or has grown old."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator

from benchmarks.fuzz import record
from benchmarks.fuzz.outcome import ROOT, Outcome
from benchmarks.fuzz.record import Record

PER_PROCESS = 2500
SILENT_S = {"read": 60, "commands": 120}  # the child ends by itself what takes long, where it can


def run(found: Record, count: int) -> Record:
    """Try inputs until so many have been tried; the record is written every so often."""
    while found.n < count:
        for outcome, seconds in _outcomes(found, found.n, min(count, found.n + PER_PROCESS)):
            found.add(outcome, seconds)
            if found.n % 200 == 0:
                record.write(found)
        record.write(found)
    return found


def retry(found: Record) -> Record:
    """Try again what fell; what does not fall any more counts as what it is now."""
    for fall in list(found.falls):
        for number in list(fall.numbers):
            [(outcome, _)] = _outcomes(found, number, number + 1)
            if outcome.name != "fell":
                fall.numbers.remove(number)
                found.replace(fall, outcome)
    record.write(found)
    return found


def _outcomes(found: Record, first: int, end: int) -> Iterator[tuple[Outcome, float]]:
    """Of some inputs, until `end` or the death of the process, which is the outcome of its last input."""
    words = ["benchmarks.fuzz.child", found.kind, found.way, *map(str, (found.seed, first, end))]
    folders = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    threads = {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": folders}
    child = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", *words],
        cwd=ROOT,
        env=os.environ | threads,
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    n_left, began = end - first, 0.0
    while n_left:
        line = _line(child, SILENT_S[found.way])
        if line.startswith("{"):
            n_left -= 1
            yield Outcome(**json.loads(line)), time.monotonic() - began
        elif line:
            began = time.monotonic()
        else:
            break
    try:
        why = f"died with {child.wait(1 if n_left else 30)}"
    except subprocess.TimeoutExpired:
        why = f"silent for {SILENT_S[found.way]} s"
        child.kill()
        child.wait()
    if n_left:
        if not began:
            raise RuntimeError(f"the process of {found.kind} did not begin")
        yield Outcome("fell", f"the process was {why}"), time.monotonic() - began


def _line(child: subprocess.Popen[bytes], seconds: float) -> str:
    """The next line; "" where none came in time, or the process is gone."""
    text = ""  # read by the letter, for select does not see what Python has buffered
    while not text.endswith("\n"):
        ready, _, _ = select.select([child.stdout], [], [], seconds)
        piece = os.read(child.stdout.fileno(), 1) if ready else b""  # type: ignore[union-attr]
        if not piece:
            return ""
        text += piece.decode(errors="replace")
    return text
