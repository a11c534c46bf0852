"""What a kind of input is, and how one input of it is tried."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import click

from benchmarks.fuzz import guard
from benchmarks.fuzz.outcome import ROOT, Outcome
from generators import CheckpointError
from jobs.cli import cli
from pipeline.errors import ConfigError, ShardError

TIME_S = 10
USER_ERRORS = (ConfigError, ShardError, CheckpointError, click.ClickException)
# Of a library that was asked for what a file claims: refused only because the fuzzer gave little memory.
MEMORY_WORDS = ("malloc", "bad_alloc", "out of memory", "not enough memory", "alloc of size")


@dataclass(frozen=True)
class Kind:
    """A kind of input: how one is written, and what reads it."""

    name: str
    # Makes what inputs are made of; the others get it.
    originals: Callable[[Path], Any]
    write: Callable[[Random, Path, Any], None]  # one input into an empty folder
    words: Callable[[Random, Path], list[str]]  # of a command that reads it
    readers: tuple[Callable[[Random, Path], object], ...] = ()


class Hang(BaseException):
    """Not over in time."""


def draws(kind: Kind, seed: int, number: int, way: str = "read") -> Random:
    """The chance of one input: the same for the same numbers."""
    return Random(f"{kind.name} {way} {seed} {number}")


def emptied(folder: Path) -> Path:
    """The folder, made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def attempt(kind: Kind, draw: Random, box: Path, originals: Any, shows: bool = False) -> Outcome:
    """Write one input below the folder `box`, read it, and say how that ended.

    Args:
        shows: print the traceback of what fell, and what the readers print.
    """
    given, _ = emptied(box / "in"), emptied(box / "out")
    kind.write(draw, given, originals)
    os.chdir(given)
    beside = set(os.listdir(box))
    try:
        with (
            _in_time(),
            guard.inside(box),
            contextlib.nullcontext() if shows else _silent(),
        ):
            _read(kind, draw, given)
        outcome = Outcome("read")
    except (SystemExit, click.exceptions.Exit):
        outcome = Outcome("read")  # --help, or problems that `verify` listed
    except USER_ERRORS as error:
        outcome = _refused(error)
    except (Exception, Hang, guard.Outside) as error:
        outcome = _fell(error)
        if shows:
            traceback.print_exc()
    if more := set(os.listdir(box)) - beside:
        return Outcome("fell", "wrote outside its folders", str(sorted(more)))
    return replace(outcome, text=outcome.text.replace(f"{box}/", ""))


def _read(kind: Kind, draw: Random, given: Path) -> None:
    if kind.readers and draw.random() < 0.5:
        draw.choice(kind.readers)(draw, given)
        return
    try:
        cli.main(kind.words(draw, given), "restyle", standalone_mode=False)
    except OSError as error:
        if error.filename is None:
            raise
        # The command line says which file it is that cannot be used, and why.
        raise ConfigError(f"{error.filename!r}: {error.strerror}") from None


def _refused(error: BaseException) -> Outcome:
    text = error.format_message() if isinstance(error, click.ClickException) else str(error)
    if any(word in text.lower() for word in MEMORY_WORDS):
        return Outcome("fell", f"memory {_place(error)}", text[:500])
    # click's own lists of choices have lines; every other sentence is one line.
    if not text or ("\n" in text and not isinstance(error, click.ClickException)):
        return Outcome("fell", f"no one sentence {_place(error)}", text[:500])
    return Outcome("refused")


def _fell(error: BaseException) -> Outcome:
    return Outcome("fell", f"{type(error).__name__} {_place(error)}", str(error)[:300])


def _place(error: BaseException) -> str:
    """The last line of the project in a traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if f.filename.startswith(str(ROOT)) and "/.venv/" not in f.filename]
    ours = [f for f in ours if "/benchmarks/fuzz/" not in f.filename] or ours or frames
    last = ours[-1]
    return f"{os.path.relpath(last.filename, ROOT)}:{last.name}"


@contextlib.contextmanager
def _in_time() -> Iterator[None]:
    """Raise Hang where the block takes too long: of the processor, for others may be at work on it."""
    handler = signal.signal(signal.SIGPROF, _hang)
    signal.setitimer(signal.ITIMER_PROF, TIME_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, handler)


def _hang(*_: Any) -> None:
    raise Hang(f"not over after {TIME_S} s of the processor")


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    with (
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield
    sys.stdout.flush()
