"""Flags from dataclasses: one for each field, with its type, default and help."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, fields, replace
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import click

from pipeline.errors import ConfigError
from pipeline.storage import redact
from pipeline.training.config import LoopConfig, WorkersConfig
from pipeline.training.run import execute, find_shards

AT_LEAST_1 = click.IntRange(min=1)
Command = Callable[..., Any]
Config = TypeVar("Config", bound=Any)


class Numbers(click.ParamType):
    """Whole numbers with commas between them."""

    name = "N,N,..."

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(int(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is no list such as 128,64,32", param, ctx)


def of_dataclass(kind: type, *, without: Sequence[str] = ()) -> Callable[[Command], Command]:
    """One flag for each field of a config; those that are not passed are None.

    A field's help is its metadata's ``help``.
    """
    hints = get_type_hints(kind)

    def decorate(command: Command) -> Command:
        for field in reversed(fields(kind)):
            if field.name not in without:
                command = _option(field, hints[field.name])(command)
        return command

    return decorate


def _option(field: Field, hint: Any) -> Callable[[Command], Command]:
    name = field.name.replace("_", "-")
    text = field.metadata.get("help", "")
    shown = None if field.default is MISSING else field.default
    if hint is bool:
        return click.option(f"--{name}/--no-{name}", default=None, help=f"{text} [{_said(shown)}]")
    kind = Numbers() if "tuple" in str(hint) else {int: int, float: float}.get(hint, str)
    note = "" if shown is None else f" [{_said(shown)}]"
    return click.option(f"--{name}", type=kind, default=None, help=f"{text}{note}")


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value)


def loop_options(command: Command) -> Command:
    """What every training takes: shards, folder, rhythm and workers."""
    options = [
        click.argument("shards", nargs=-1, required=True),
        click.option("--out", required=True, help="Folder for checkpoints and logs."),
        click.option("--held-out", multiple=True, help="Shards to validate on. [the last shard]"),
        click.option(
            "--n-held-out",
            type=AT_LEAST_1,
            default=64,
            show_default=True,
            help="Images to validate on.",
        ),
        click.option(
            "--align",
            type=click.Choice(["none", "face"]),
            default="none",
            show_default=True,
            help="none: images are aligned. face: align each as it comes.",
        ),
        click.option(
            "--chunk",
            type=AT_LEAST_1,
            default=2048,
            show_default=True,
            help="Samples shuffled together, held in memory as they are stored.",
        ),
        click.option(
            "--validate-every", type=AT_LEAST_1, default=500, show_default=True, help="Batches."
        ),
        click.option(
            "--checkpoint-every", type=AT_LEAST_1, default=500, show_default=True, help="Batches."
        ),
        click.option(
            "--log-every", type=AT_LEAST_1, default=20, show_default=True, help="Batches."
        ),
        click.option(
            "--workers",
            type=AT_LEAST_1,
            default=1,
            show_default=True,
            help="Ray workers, each a copy.",
        ),
        click.option("--gpus-per-worker", type=float, help="[1 where there is one]"),
        click.option("--address", help="Ray cluster: auto or HOST:PORT. Default: start Ray here."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def configured(preset: Config, options: dict[str, Any]) -> Config:
    """A config with the entries whose flags were passed.

    Raises:
        ConfigError: they cannot be.
    """
    names = {field.name for field in fields(preset)}
    passed = {n: value for n, value in options.items() if n in names and value is not None}
    try:
        return replace(preset, **passed)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def start(make: Any, settings: dict[str, Any], options: dict[str, Any], z_dim: int) -> None:
    """Train with what the flags say.

    Args:
        make: builds the trainer on a device.
        settings: of the trainer: what decides the weights, with n_batches, batch_size and seed.
        z_dim: of the vectors that samples carry; 0: none is wanted.
    """
    shards, held_out = find_shards(options["shards"], options["held_out"])
    rhythm = ("n_held_out", "align", "chunk", "validate_every", "checkpoint_every", "log_every")
    config = LoopConfig(
        out=options["out"],
        shards=shards,
        held_out=held_out,
        z_dim=z_dim,
        **{name: settings[name] for name in ("n_batches", "batch_size", "seed")},
        **{name: options[name] for name in rhythm},
    )
    decides = settings | {
        "shards": [redact(url) for url in shards],
        "held_out": [redact(url) for url in held_out],
        **{name: options[name] for name in ("align", "chunk", "n_held_out")},
    }
    how = WorkersConfig(options["workers"], options["gpus_per_worker"], options["address"])
    notes = shlex.join(["restyle", *map(redact, sys.argv[1:])])
    execute(make, config, decides, how, notes)
    folder = Path(options["out"])
    click.echo(f"{folder / 'last.safetensors'} and best.safetensors are ready for use")
