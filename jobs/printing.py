"""What commands say, line by line: nothing that a file holds reaches the terminal as it is."""

from __future__ import annotations

import io
import sys
import traceback
import warnings
from types import TracebackType
from typing import TextIO

import click

from pipeline.printing import printable


def say(*lines: object, err: bool = False) -> None:
    """Print lines; a line stays one, whatever stands in it.

    Args:
        err: to stderr.
    """
    for line in lines:
        click.echo(printable(line), err=err)


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
