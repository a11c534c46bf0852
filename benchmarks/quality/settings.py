"""What is measured, and on how much: the arguments of the command."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_RESULTS = Path(__file__).parent.parent / "results" / "quality.json"


def _option(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class Settings:
    """Everything that decides the numbers, but for the machine, and where they go."""

    model: str = _option("demo", 'the ReStyle inverter: "demo", or a file')
    single_pass: str | None = _option(
        None, "an encoder trained for one step to compare with, a file"
    )
    images: int = _option(64, "held-out portraits")
    seed: int = _option(2_000_000_011, "of the portraits; no training may use it or the next 30")
    steps: int = _option(10, "of the residual loop")
    optimization_steps: int = _option(500, "of latent optimisation from the average")
    hybrid_steps: int = _option(50, "of latent optimisation from the encoder's fifth step")
    readout_renders: int = _option(3000, "portraits to which the reading of attributes is fitted")
    samples: int = _option(64, "images from random z")
    batch: int = _option(16, "images at once, for every method")
    device: str = _option("cpu", "cpu or cuda")
    out: Path = _option(Path("docs"), "folder that gets quality.md and quality/")
    results: Path = _option(_RESULTS, "file that gets the numbers")

    def __post_init__(self) -> None:
        if self.steps < 5:
            raise ValueError(
                f"the claims are about five steps; pass --steps 5 or more, not {self.steps}"
            )
        if self.images < 2:
            raise ValueError(
                f"correlations need two portraits; pass --images 2 or more, not {self.images}"
            )
