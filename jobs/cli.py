"""``restyle``: the group of commands and how they end. Loads neither torch, ray nor dlib by itself."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from contextlib import suppress
from typing import Any, NoReturn

import click

from jobs import streams
from jobs.compare import compare
from jobs.convert import convert
from jobs.demo import demo
from jobs.edit import edit
from jobs.export import export
from jobs.groups import Commands
from jobs.inspect import inspect
from jobs.interpolate import interpolate
from jobs.invert import invert
from jobs.learn_direction import learn_direction
from jobs.models import models
from jobs.pack import pack
from jobs.portraits import portraits
from jobs.printing import emit, guard, manner, not_printed, say, show, unforeseen
from jobs.render import render
from jobs.report import report
from jobs.status import status
from jobs.train import train
from jobs.verify import verify
from pipeline.errors import ConfigError


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="restyle-batch", prog_name="restyle")
def cli() -> None:
    """Invert whole image data sets into StyleGAN latents.

    \b
    restyle demo --out demo                              see it work, on a CPU
    restyle invert photos/ --out latents/                photos, or shards of them -> Parquet
    restyle pack photos/ 'shards/%06d.tar'               a folder of photos -> shards
    restyle report latents/ --out report.html            a page to look at
    """


COMMANDS = (
    demo,
    pack,
    portraits,
    invert,
    status,
    verify,
    report,
    compare,
    export,
    learn_direction,
    edit,
    interpolate,
    render,
    train,
    models,
    inspect,
    convert,
)
for command in COMMANDS:
    cli.add_command(command)


CONTINUE = "stopped; run the same command again to resume"


class Terminated(BaseException):
    """SIGTERM, as Ctrl-C is KeyboardInterrupt: whatever is open is closed on the way out."""


def _terminate(*_: Any) -> NoReturn:
    raise Terminated


def main() -> None:
    """Run a command; whatever goes wrong ends in one sentence and status 2."""
    streams.open_closed()
    signal.signal(signal.SIGTERM, _terminate)
    guard()
    status = _status()
    streams.let_go()
    if status:
        sys.exit(status)


def _status() -> Any:
    """That of the command, once all that it printed is written."""
    try:
        status = _called()
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise not_printed(error) from None
        return status
    except click.ClickException as error:
        show(error)
        return error.exit_code
    except BrokenPipeError:
        return 1  # the reader of our output went away: `restyle status | head`
    except BaseException as error:  # those of Rust libraries, too, are no Exceptions
        status = _status_of_signal(error)
        if status is not None:
            say("", CONTINUE, err=True)
            return status
        text = str(error) if _can_be_mended(error) else unforeseen(error)
        if manner.as_json:
            with suppress(OSError, ConfigError):  # stderr still takes it
                emit({"event": "error", "text": text})
        say(f"Error: {text}", err=True)
        return 2


def _called() -> Any:
    try:
        cli(standalone_mode=False)
    except SystemExit as stop:
        return stop.code
    return 0


def _status_of_signal(error: BaseException) -> int | None:
    """128 and the signal's number, as shells count; None where no signal is behind the error."""
    if isinstance(error, Terminated):
        return 128 + signal.SIGTERM
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return 128 + signal.SIGINT
    # A signal that arrives while Ray waits comes out as the cause of a SystemError.
    cause = error.__cause__ if isinstance(error, SystemError) else None
    return None if cause is None else _status_of_signal(cause)


def _can_be_mended(error: BaseException) -> bool:
    # Looked up, not imported: an error of theirs means that they are loaded, and torch takes seconds.
    kinds = (
        ("pipeline.errors", "ConfigError"),
        ("pipeline.errors", "ShardError"),
        ("generators.files.checkpoint", "CheckpointError"),
        ("generators.training.protocol", "NotFinite"),
    )
    kinds_loaded = [
        getattr(sys.modules[module], name) for module, name in kinds if module in sys.modules
    ]
    return isinstance(error, tuple(kinds_loaded))


def program() -> NoReturn:
    """The process of a command: :func:`main`, and the end at once.

    Python would take Ray and torch apart piece by piece after the last line, which takes seconds.
    """
    status: Any = 0
    try:
        main()
    except SystemExit as stop:
        status = stop.code
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    streams.let_go()
    os._exit(status if isinstance(status, int) else 1)


if __name__ == "__main__":
    program()
