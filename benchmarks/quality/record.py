"""All numbers of one run: what the JSON file holds, and all that the page is made of."""

from __future__ import annotations

import json
import platform
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path, PurePath

import torch

from benchmarks.inversion import cpu_name
from benchmarks.quality.changes import Changes
from benchmarks.quality.choices import Choices
from benchmarks.quality.distances import Distances
from benchmarks.quality.readout import Reading
from benchmarks.quality.robustness import Disturbed
from benchmarks.quality.samples import Samples
from benchmarks.quality.settings import Settings
from benchmarks.quality.targets import Target
from encoders import ReStyle
from generators.files.checkpoint import tensors_sha256

NAMES = {
    "single_pass": "single pass",
    "encoder": "ReStyle",
    "optimization": "optimisation",
    "hybrid": "hybrid",
    "fast": "--refine fast",
    "best": "--refine best",
    "refined": "--refine N",
}
PLACES = ("out", "results")  # settings that say where to write, and nothing of the numbers


@dataclass(frozen=True)
class Setup:
    """Where and of what the numbers were made."""

    command: str
    date: str
    device: str
    threads: int
    load: float  # processes that wanted a core in the minute before, beside this one
    versions: dict[str, str]
    size: int  # pixels of the portraits
    n_styles: int
    parameters: dict[str, int]  # of the encoders, in numbers
    sha256: dict[str, str]  # of encoders and generator
    settings: dict[str, object]


@dataclass(frozen=True)
class Method:
    """One row of the comparison."""

    seconds: float  # an image
    distances: Distances


@dataclass(frozen=True)
class Point:
    """A method on its way."""

    step: int
    seconds: float
    mse: float


@dataclass(frozen=True)
class Record:
    """One run."""

    setup: Setup
    steps: list[Distances]  # of the average image, then after each step
    step_seconds: list[float]  # an image, of 1, 2, ... steps
    methods: dict[str, Method]  # by the names above; encoder: five steps
    courses: dict[str, list[Point]]  # of the methods that take steps
    changes: Changes
    robustness: list[Disturbed]
    readings: list[Reading]
    samples: Samples
    choices: Choices
    targets: list[Target]

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")


def setup(
    settings: Settings, model: ReStyle, single: ReStyle | None, argv: Sequence[str], load: float
) -> Setup:
    """Facts of this machine and these models; the load is that before the run."""
    encoders = {"encoder": model.encoder} | ({"single_pass": single.encoder} if single else {})
    networks = {**encoders, "generator": model.generator}
    device = torch.cuda.get_device_name() if settings.device.startswith("cuda") else cpu_name()
    packages = {name: version(name) for name in ("torch", "numpy", "dlib-bin")}
    return Setup(
        command=shlex.join(["python", "-m", "benchmarks.quality", *map(_public, argv)]),
        date=date.today().isoformat(),
        device=device,
        threads=torch.get_num_threads(),
        load=round(load, 2),
        versions={"python": platform.python_version()} | packages,
        size=model.input_size[0],
        n_styles=model.generator.n_styles,
        parameters={n: sum(p.numel() for p in e.parameters()) for n, e in encoders.items()},
        sha256={name: tensors_sha256(each.state_dict()) for name, each in networks.items()},
        settings={
            name: _public(value) if isinstance(value, str) else value
            for name, value in asdict(settings).items()
            if name not in PLACES
        },
    )


def _public(argument: str) -> str:
    """Without the folders of this machine."""
    path = PurePath(argument)
    return path.name if path.is_absolute() else argument
