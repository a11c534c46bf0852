"""The pictures of a run -> the sheets of the page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.quality import sheets
from benchmarks.quality.changes import heat
from benchmarks.quality.methods import ENCODER_STEPS
from benchmarks.quality.portraits import Portraits
from benchmarks.quality.targets import SHOWN

N_SHOWN = 8  # in a row, where there are as many


@dataclass(frozen=True)
class Pictures:
    """Everything that is shown, on the CPU."""

    portraits: Portraits
    steps: Tensor  # the average image, then after each step: [1 + n_steps, N, 3, h, w]
    answers: dict[str, Tensor]  # method -> [N, 3, h, w]; the encoder's is that of five steps
    samples: Tensor  # [n, 3, h, w]
    disturbed: dict[str, tuple[Tensor, Tensor]]  # kind -> what was seen, and what became of it


def save(pictures: Pictures, folder: Path) -> None:
    """Contact sheets as JPEG files."""
    for name, rows in _sheets(pictures).items():
        sheets.save(rows, folder / f"{name}.jpg")


def _sheets(pictures: Pictures) -> dict[str, list[Tensor]]:
    steps, answers = pictures.steps[: ENCODER_STEPS + 1], pictures.answers
    others = [answer for name, answer in answers.items() if name != "encoder"]
    rows = [pictures.portraits.images, *steps, *others]
    pairs = [_extremes(pictures.portraits, answers["encoder"], attribute) for attribute in SHOWN]
    seen = [row[: N_SHOWN // 2] for pair in pictures.disturbed.values() for row in pair]
    n_rows = max(1, len(pictures.samples) // N_SHOWN)
    return {
        "steps": [row[:N_SHOWN] for row in rows],
        "attributes": [row for pair in pairs for row in pair],
        "samples": list(pictures.samples[: n_rows * N_SHOWN].chunk(n_rows)),
        "heat": [sheets.coloured(heat(steps))],
        # Two rows: what was seen above what became of it, kind beside kind.
        "disturbed": [torch.cat(seen[0::2]), torch.cat(seen[1::2])],
    }


def _extremes(portraits: Portraits, reconstructions: Tensor, attribute: str) -> list[Tensor]:
    """Two rows: the portraits with least and with most of an attribute, and what became of them."""
    order = portraits.truth(attribute).argsort()
    n = min(N_SHOWN, len(order)) // 2
    chosen = torch.cat([order[:n], order[-n:]])
    return [portraits.images[chosen], reconstructions[chosen]]
