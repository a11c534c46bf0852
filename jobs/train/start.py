"""What the commands that train share: their flags, and how a training starts from them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from jobs import flags, paths
from jobs.printing import say
from pipeline.storage import redact
from pipeline.training.classes import Classes
from pipeline.training.config import LoopConfig, RenderConfig, WorkersConfig
from pipeline.training.run import Shards, execute, find_shards

# Of the loop, what decides the weights too.
DECIDING = ("align", "chunk", "n_held_out")


def command(
    *configs: str, needs_shards: bool = True, **attributes: Any
) -> Callable[[Any], click.Command]:
    """A command on SHARDS with the flags of the loop, of the workers and of further configs."""
    training = "pipeline.training.config"
    made = flags.command(
        f"{training}:LoopConfig",
        f"{training}:WorkersConfig",
        *configs,
        renamed="pipeline.training.state:RENAMED",
        **attributes,
    )

    def decorate(function: Any) -> click.Command:
        shards = click.argument("shards", nargs=-1, required=needs_shards, type=paths.FILE)
        for decorator in (flags.out("Folder for checkpoints and logs."), shards):
            function = decorator(function)
        return made(function)

    return decorate


def data_of(shards: Sequence[str], options: Mapping[str, Any]) -> Shards:
    """The shards to train on, and those to validate on, by the flags."""
    return find_shards(shards, options["held_out"], options["held_out_share"])


def start(
    make: Any,
    settings: dict[str, Any],
    data: Shards,
    out: str,
    options: dict[str, Any],
    z_dim: int = 0,
    rendered: RenderConfig | None = None,
    classes: Classes | None = None,
) -> None:
    """Train with what the flags say.

    Args:
        make: builds the trainer on a device.
        settings: of the trainer: what decides the weights, with n_batches, batch_size and seed.
        data: what is read; see :func:`data_of`.
        z_dim: of the vectors that samples carry; 0: none is wanted.
        rendered: what is drawn instead of reading shards.
        classes: those of the samples, for a generator that draws by class.
    """
    shared = {name: settings[name] for name in ("n_batches", "batch_size", "seed")}
    shared |= {"z_dim": z_dim}  # a flag of some trainers too
    given = options.keys() - {"held_out", "held_out_share"}  # which the data is of
    of_loop = {f.name: options[f.name] for f in fields(LoopConfig) if f.name in given}
    config = flags.build(
        LoopConfig,
        of_loop | shared,
        out=out,
        shards=data.own,
        held_out=data.held_out,
        held_out_share=data.share,
        rendered=rendered,
        classes=classes,
    )
    decides = settings | {
        "shards": [redact(url) for url in data.own],
        "held_out": [redact(url) for url in data.held_out],
        **{name: getattr(config, name) for name in DECIDING},
        **({"held_out_share": data.share} if data.share else {}),
        **({"classes": classes.source} if classes else {}),
        **({"held_out_seed": rendered.held_out_seed} if rendered else {}),
    }
    notes = shlex.join(["restyle", *map(redact, sys.argv[1:])])
    execute(make, config, decides, flags.build(WorkersConfig, options), notes)
    say(f"{Path(out) / 'last.safetensors'} and best.safetensors are ready for use")
