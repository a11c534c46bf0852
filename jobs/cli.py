"""``restyle``: the group of commands and how they end. Loads neither torch, ray nor dlib by itself."""

from __future__ import annotations

import sys

import click

from jobs.compare import compare
from jobs.convert import convert
from jobs.demo import demo
from jobs.inspect import inspect
from jobs.invert import invert
from jobs.pack import pack
from jobs.portraits import portraits
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


COMMANDS = (demo, pack, portraits, invert, train, status, verify, report, compare, inspect, convert)
for command in COMMANDS:
    cli.add_command(command)


def main() -> None:
    """Run a command; what the user can mend ends in one sentence and status 2."""
    try:
        cli(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("\nstopped; the same command again continues where it left off", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)  # the reader of our output went away: `restyle status | head`
    except Exception as error:
        if not _can_be_mended(error):
            raise
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)


def _can_be_mended(error: Exception) -> bool:
    # Looked up, not imported: an error of theirs means that they are loaded, and torch takes seconds.
    kinds = (
        ("pipeline.config", "ConfigError"),
        ("pipeline.storage", "ShardError"),
        ("generators.checkpoint", "CheckpointError"),
        ("generators.trainer", "NotFinite"),
    )
    known = [getattr(sys.modules[module], name) for module, name in kinds if module in sys.modules]
    return isinstance(error, tuple(known))


if __name__ == "__main__":
    main()
