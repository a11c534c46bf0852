"""The process in which inputs are tried: with little memory, and told to tell before it tries each."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any, TextIO

from benchmarks.fuzz import commands, kinds
from benchmarks.fuzz.all_kinds import KINDS
from benchmarks.fuzz.kinds import Kind
from benchmarks.fuzz.outcome import Outcome

# Beyond what the process has when it begins; threads and arenas take some of it without using it.
MEMORY_BYTES = 3 << 30


def limit_memory() -> None:
    """No more address space than now and a few GiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    used = next(int(line.split()[1]) for line in lines if line.startswith("VmSize")) << 10
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, used + MEMORY_BYTES))


def die_with_parent() -> None:
    """SIGKILL for this process as soon as its parent is gone (Linux)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _run(kind: Kind, way: str, seed: int, first: int, end: int, report: TextIO) -> None:
    with tempfile.TemporaryDirectory() as folder:
        box = Path(folder).resolve() / "box"
        box.mkdir()
        originals = kind.originals(box)
        attempt: Any = commands.attempt if way == "commands" else kinds.attempt
        if way != "commands":
            limit_memory()
        for number in range(first, end):
            print(number, file=report, flush=True)
            draw = kinds.draws(kind, seed, number, way)
            try:
                outcome = attempt(kind, draw, box, originals)
            except Exception:
                # The fuzzer's own mistakes are not to be taken for anything else.
                outcome = Outcome("fell", "the fuzzer", traceback.format_exc()[-500:])
            print(json.dumps(vars(outcome)), file=report, flush=True)
        os.chdir("/")


def main() -> None:
    """KIND, way, seed, first and end from the command line; a line before and after each input."""
    die_with_parent()
    name, way, *numbers = sys.argv[1:]
    with open(os.dup(1), "w") as report:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        seed, first, end = map(int, numbers)
        _run(KINDS[name], way, seed, first, end, report)


if __name__ == "__main__":
    main()
