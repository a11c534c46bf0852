"""What commands say, line by line: nothing that a file holds reaches the terminal as it is."""

from __future__ import annotations

import errno
import io
import os
import sys
import traceback
import warnings
from types import TracebackType
from typing import TextIO

import click

from pipeline.errors import ConfigError
from pipeline.printing import printable

TRACEBACK = "RESTYLE_TRACEBACK"  # in the environment: show where an error came from
MAX_ERROR = 300  # characters of an error's own text


def say(*lines: object, err: bool = False) -> None:
    """Print lines; a line stays one, whatever stands in it.

    Args:
        err: to stderr; a command does not end because nobody can be told.

    Raises:
        ConfigError: stdout does not take them: its disk is full.
    """
    try:
        for line in lines:
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
