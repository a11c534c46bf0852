"""``restyle``: the group of commands and how they end. Loads neither torch, ray nor dlib by itself."""

from __future__ import annotations

import signal
import sys
from typing import Any, NoReturn

import click

from jobs.compare import compare
from jobs.convert import convert
from jobs.demo import demo
from jobs.edit import edit
from jobs.export import export
from jobs.inspect import inspect
from jobs.interpolate import interpolate
from jobs.invert import invert
from jobs.learn_direction import learn_direction
from jobs.pack import pack
from jobs.portraits import portraits
from jobs.printing import guard, say, show
from jobs.render import render
from jobs.report import report
from jobs.status import status
from jobs.train import train
from jobs.verify import verify


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="restyle-batch", prog_name="restyle")
def cli() -> None:
    """Invert whole image data sets into StyleGAN latents.

    \b
    restyle demo --out demo                              see it work, on a CPU
    restyle pack photos/ 'shards/%06d.tar'               a folder of photos -> shards
    restyle invert 'shards/*.tar' --out latents/         shards -> Parquet
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
    """Run a command; what the user can mend ends in one sentence and status 2."""
    signal.signal(signal.SIGTERM, _terminate)
    guard()
    try:
        cli(standalone_mode=False)
    except click.ClickException as error:
        show(error)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort, Terminated, SystemError) as error:
        status = _status_of_signal(error)
        if status is None:
            raise
        say("", CONTINUE, err=True)
        sys.exit(status)
    except BrokenPipeError:
        sys.exit(1)  # the reader of our output went away: `restyle status | head`
    except Exception as error:
        if not _can_be_mended(error):
            raise
        say(f"Error: {error}", err=True)
        sys.exit(2)


def _status_of_signal(error: BaseException) -> int | None:
    """128 and the signal's number, as shells count; None where no signal is behind the error."""
    if isinstance(error, Terminated):
        return 128 + signal.SIGTERM
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return 128 + signal.SIGINT
    # A signal that arrives while Ray waits comes out as the cause of a SystemError.
    return None if error.__cause__ is None else _status_of_signal(error.__cause__)


def _can_be_mended(error: Exception) -> bool:
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


if __name__ == "__main__":
    main()
