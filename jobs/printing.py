"""What commands say, line by line: nothing that a file holds reaches the terminal as it is."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, TextIO

import click

from pipeline.errors import ConfigError
from pipeline.printing import printable

TRACEBACK = "RESTYLE_TRACEBACK"  # in the environment: show where an error came from
MAX_ERROR = 300  # characters of an error's own text


@dataclass
class Manner:
    """How a command talks, as its options say; one for the process."""

    quiet: bool = False  # errors and the last line alone
    as_json: bool = False  # events on stdout, one object per line
    log_level: int = logging.WARNING  # the least that stderr tells of a run


manner = Manner()


def emit(facts: Mapping[str, Any]) -> None:
    """Print one event as a line of JSON.

    Args:
        facts: plain values, ``event`` among them; the time is added where it is missing.
    """
    stamp = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"
    _print(json.dumps({"time": stamp, **facts}), err=False)
    with suppress(OSError, ValueError):
        sys.stdout.flush()  # who reads a pipe wants it now


def note(*lines: object) -> None:
    """Print what a user may want to know, to stderr; nothing where only errors are asked for."""
    for line in lines:
        if manner.as_json:
            emit({"event": "warning", "text": str(line)})
        elif manner.log_level <= logging.WARNING:
            _print(line, err=True)


def say(*lines: object, err: bool = False, last: bool = False) -> None:
    """Print lines; a line stays one, whatever stands in it.

    Args:
        err: to stderr; a command does not end because nobody can be told.
        last: the result of the command, which is also told where little is.

    Raises:
        ConfigError: stdout does not take them: its disk is full.
    """
    for line in lines:
        if err:
            _print(line, err=True)
        elif manner.as_json:
            emit({"event": "message", "text": str(line)})
        elif last or not manner.quiet:
            _print(line, err=False)


def speed(n: int, seconds: float, noun: str = "row") -> str:
    """Rows per second, or seconds per row where there is less than one a second."""
    rate = n / max(seconds, 1e-9)
    return f"{1 / rate:.1f} s/{noun}" if 0 < rate < 1 else f"{rate:.1f} {noun}s/s"


def clock(seconds: float) -> str:
    """Such as 02:05, or 1:02:05."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"


def _print(line: object, err: bool) -> None:
    try:
        click.echo(printable(line), err=err)
    except BrokenPipeError:
        raise
    except OSError as error:
        if not err:
            raise not_printed(error) from None


def not_printed(error: OSError) -> ConfigError:
    """That the output goes nowhere, in one sentence."""
    why = error.strerror or error
    return ConfigError(
        f"the output cannot be written ({why}); free some space, or send it elsewhere"
    )


def unforeseen(error: BaseException) -> str:
    """An error that nobody has words for, in one sentence; the traceback before it where it is asked for."""
    if os.environ.get(TRACEBACK):
        _unforeseen(type(error), error, error.__traceback__)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines)
    text = lines[-1][:MAX_ERROR] if len(text) > MAX_ERROR else text
    if isinstance(error, MemoryError):
        why = text or "the system gave no more"
        return f"there is not enough memory for this ({why}); ask for less at once"
    if isinstance(error, OSError) and error.filename is not None:
        name = os.fsdecode(error.filename) if isinstance(error.filename, bytes) else error.filename
        return f"cannot use {name} ({error.strerror}); pass another file or folder"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return str(not_printed(error))
    kind = type(error).__name__
    return (
        f"restyle has met an error that it does not know ({kind}{': ' if text else ''}{text}); please report "
        f"it, with the traceback that {TRACEBACK}=1 in the environment shows"
    )


def show(error: click.ClickException) -> None:
    """click's own message about a wrong command line, which repeats words of it."""
    text = io.StringIO()
    error.show(text)
    say(*text.getvalue().rstrip("\n").split("\n"), err=True)


def guard() -> None:
    """Print what Python itself prints, warnings and errors that nobody foresaw, in the same way."""
    sys.excepthook = _unforeseen
    warnings.showwarning = _warn


def _unforeseen(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    text = "".join(traceback.format_exception(kind, error, trace))
    say(*text.rstrip("\n").split("\n"), err=True)


def _warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    text = warnings.formatwarning(message, category, filename, lineno, line)
    say(*text.rstrip("\n").split("\n"), err=True)
