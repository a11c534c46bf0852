"""How far an edit moves every attribute, and how far the person stays the same."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmarks.editing.data import Inverted, drawn
from benchmarks.quality.distances import identities
from benchmarks.quality.readout import ReadOut, correlation
from encoders import ReStyle
from generators import directions
from pipeline.editing.learning import LearnConfig, fit

LABELS = ("smile", "glasses", "yaw", "hair_lightness")
# What an edit should leave as it is, besides the other three labels.
OTHERS = ("mouth_open", "beard", "fringe", "hair_length", "skin_lightness", "background_lightness")
STRENGTHS = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)
# Other ways to learn the smile, the weakest of them.
WAYS = {
    "conditioned on the others": LearnConfig("smile", LABELS[1:]),
    "without conditions": LearnConfig("smile"),
    "layers 0-3": LearnConfig("smile", LABELS[1:], layers=(0, 1, 2, 3)),
    "layers 2-5": LearnConfig("smile", LABELS[1:], layers=(2, 3, 4, 5)),
    "layers 4-9": LearnConfig("smile", LABELS[1:], layers=(4, 5, 6, 7, 8, 9)),
}
COUNTS = (150, 500, 1500)


@dataclass(frozen=True)
class Edit:
    """One direction. Attributes are in standard deviations of the portraits'."""

    name: str
    n_rows: int  # learned from and measured on
    accuracy: float  # on those held out
    slopes: dict[str, float]  # change of each attribute by a strength of 1, a line fitted to all
    changes: dict[str, list[float]]  # of each attribute, by strength
    identity: list[float]  # with the unedited reconstruction, by strength; empty: not measured


class Ruler:
    """Reads attributes from pictures, in standard deviations of the truth.

    A linear reading answers with a part of what is true (its slope); it is divided by that part.
    """

    def __init__(self, learned: Inverted, held_out: Inverted) -> None:
        self.names = (*LABELS, *OTHERS)
        self._read = ReadOut(learned.portraits, self.names)
        truth = self._standard(
            torch.stack([held_out.portraits.truth(name).double() for name in self.names], dim=1)
        )
        found = self._standard(self._read(held_out.portraits.images))
        middle = truth - truth.mean(0)
        self.part = (middle * found).sum(0) / middle.square().sum(0)
        pairs = zip(self.names, found.T, truth.T, strict=True)
        self.agreement = {name: correlation(a, b) for name, a, b in pairs}

    def __call__(self, images: Tensor) -> Tensor:
        """[N, 3, h, w] -> [N, n_attributes], by the names."""
        return self._standard(self._read(images)) / self.part

    def _standard(self, values: Tensor) -> Tensor:
        return (values - self._read.middle) / self._read.scale


def edit(
    model: ReStyle,
    learned: Inverted,
    people: Tensor,
    ruler: Ruler,
    config: LearnConfig,
    name: str,
    with_identity: bool = False,
) -> Edit:
    """Learn one direction and move people [N, n_styles, w_dim] along it."""
    n_rows = min(config.max_rows, len(learned.latents))
    columns = {key: value[:n_rows] for key, value in learned.labels(LABELS).items()}
    found = fit(learned.latents[:n_rows].numpy(), columns, config)
    pictures = moved(model, people, found.vectors)
    readings = torch.stack([ruler(each) for each in pictures])  # [n_strengths, N, n_attributes]
    changes = (readings - readings[STRENGTHS.index(0)]).mean(dim=1)
    lines = np.polyfit(STRENGTHS, changes.numpy(), 1)[0]
    unedited = pictures[STRENGTHS.index(0)]
    return Edit(
        name,
        n_rows,
        found.target.accuracy,
        dict(zip(ruler.names, lines.tolist(), strict=True)),
        dict(zip(ruler.names, changes.T.tolist(), strict=True)),
        identities(unedited, pictures) if with_identity else [],
    )


def moved(model: ReStyle, people: Tensor, vectors: np.ndarray) -> list[Tensor]:
    """Pictures [N, 3, h, w] of people at each strength."""
    step = torch.from_numpy(vectors)
    return [drawn(model, directions.apply(people, step, strength)) for strength in STRENGTHS]
