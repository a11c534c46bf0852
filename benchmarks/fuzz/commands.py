"""One input through a command: all of `restyle`, in a process of its own, forked when all is imported."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.fuzz.kinds import Kind, emptied
from benchmarks.fuzz.outcome import Outcome
from jobs import cli

TIME_S = 60
MEMORY_BYTES = 8 << 30
UNFORESEEN = ("Traceback (most recent call last)", "has met an error that it does not know")
STATUSES = (0, 1, 2)  # 1: `verify` found problems


def attempt(kind: Kind, draw: Random, box: Path, originals: Any) -> Outcome:
    """Write one input below the folder `box`, give it to a command, and say how that ended."""
    given, _ = emptied(box / "in"), emptied(box / "out")
    kind.write(draw, given, originals)
    words = kind.words(draw, given)
    before, said = set(os.listdir(box)), box.parent / "said.txt"
    status = _forked(words, given, said)
    text = said.read_text(errors="replace")
    command = " ".join(["restyle", *words])[:300]
    last = text.strip().splitlines()[-1][:300] if text.strip() else ""
    if any(sign in text for sign in UNFORESEEN):
        return Outcome(
            "fell", f"nobody foresaw: restyle {words[0]}: {last[:60]}", f"{last} <= {command}"
        )
    if status not in STATUSES:
        return Outcome("fell", f"status {status} of restyle {words[0]}", f"{last} <= {command}")
    if set(os.listdir(box)) != before:
        return Outcome("fell", f"restyle {words[0]} wrote outside its folders", command)
    return Outcome("refused" if status == 2 else "read")


def _forked(words: list[str], folder: Path, said: Path) -> int:
    """The status of a command, as a shell has it; its sentences (not its results) are in the file `said`."""
    child = os.fork()
    if child == 0:
        try:
            _become(words, folder, said)
        except SystemExit as error:
            os._exit(error.code if isinstance(error.code, int) else int(error.code is not None))
        except BaseException:
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
            os._exit(1)
        os._exit(0)
    end = time.monotonic() + TIME_S
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.005)


def _become(words: list[str], folder: Path, said: Path) -> None:
    os.chdir(folder)
    nowhere = os.open(os.devnull, os.O_RDWR)
    file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number, target in enumerate((nowhere, nowhere, file)):
        os.dup2(target, number)
    sys.stdout, sys.stderr = open(1, "w"), open(2, "w")  # noqa: SIM115
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    sys.argv = ["restyle", *words]
    cli.main()
    sys.stderr.flush()
