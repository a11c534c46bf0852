"""What is measured, and on how much: the arguments of the command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from generators.files.checkpoint import CheckpointError

_RESULTS = Path(__file__).parent.parent / "results" / "quality.json"


def option(default: Any, text: str) -> Any:
    """A field that is an argument of the command."""
    return field(default=default, metadata={"help": text})


def parse(kind: type[Any], name: str, about: str | None, argv: Sequence[str] | None) -> Any:
    """An object of a dataclass of options, from the words of a command line."""
    parser = argparse.ArgumentParser(name, description=about)
    for each in fields(kind):
        of = str if each.default is None else type(each.default)
        text = each.metadata["help"].replace("%", "%%") + " (%(default)s)"
        flag = "--" + each.name.replace("_", "-")
        parser.add_argument(flag, type=of, default=each.default, help=text)
    return kind(**vars(parser.parse_args(argv)))


def run_as_command(
    run: Callable[[Any], None],
    kind: type[Any],
    name: str,
    about: str | None,
    argv: Sequence[str] | None,
) -> int:
    """Run with the settings of a command line: the exit status, 2 where models or numbers do not fit."""
    try:
        run(parse(kind, name, about, argv))
    except (CheckpointError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


@dataclass(frozen=True)
class Settings:
    """Everything that decides the numbers, but for the machine, and where they go."""

    model: str = option("demo", 'the ReStyle inverter: "demo", or a file')
    single_pass: str | None = option(
        None, "an encoder trained for one step to compare with, a file"
    )
    images: int = option(64, "held-out portraits")
    seed: int = option(2_000_000_011, "of the portraits; no training may use it or the next 40")
    steps: int = option(10, "of the residual loop")
    optimization_steps: int = option(500, "of latent optimisation from the average")
    hybrid_steps: int = option(50, "of latent optimisation from the encoder's fifth step")
    readout_renders: int = option(3000, "portraits to which the reading of attributes is fitted")
    samples: int = option(64, "images from random z")
    batch: int = option(16, "images at once, for every method")
    device: str = option("cpu", "cpu or cuda")
    out: Path = option(Path("docs"), "folder that gets quality.md and quality/")
    results: Path = option(_RESULTS, "file that gets the numbers")

    def __post_init__(self) -> None:
        if self.steps < 5:
            raise ValueError(
                f"the claims are about five steps; pass --steps 5 or more, not {self.steps}"
            )
        if self.images < 2:
            raise ValueError(
                f"correlations need two portraits; pass --images 2 or more, not {self.images}"
            )
