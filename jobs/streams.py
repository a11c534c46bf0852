"""The three standard streams as a command needs them: open when it starts, and quiet when it ends."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

NAMES = ("stdin", "stdout", "stderr")


def open_closed() -> None:
    """Open what the caller closed (``2>&-``, a daemon) onto /dev/null.

    Otherwise the next file that is opened gets its number, and a library that prints writes into it.
    """
    for number, name in enumerate(NAMES):
        mode = "r" if name == "stdin" else "w"
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is this one, for those before it are open now.
            os.open(os.devnull, os.O_RDONLY if mode == "r" else os.O_WRONLY)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115


def let_go() -> None:
    """Write what is left; where that fails (a full disk), nobody is told twice. Raises nothing."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            # Python would try again at its end, print "Exception ignored", and change the status.
            with suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)
