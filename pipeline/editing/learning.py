"""Directions learned from labels: the normal of a linear boundary in W+ (InterFaceGAN, arXiv 2005.09635)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.config import setting
from pipeline.editing.sides import MIN_ROWS, BinaryLabels, known_rows, sides
from pipeline.errors import ConfigError
from pipeline.latents import LatentDataset
from pipeline.latents.schema import dense

TEST_SHARE = 0.2
Z_95 = 1.96  # standard deviations of a normal distribution around 95 % of it
# Weight of the mean loss beside half the squared normal, for latents scaled to unit variance on average: the
# same for any number of rows. Small: W+ has more entries than a folder has rows, and what tells two sides
# apart best is not what changes a picture most.
LOSS_WEIGHT = 1.0
N_SHOWN = 3  # keys in a message
MIN_REMAINDER = 0.05  # of a normal after projection; less is another label's direction with noise


@dataclass(frozen=True)
class LearnConfig:
    """What is learned, from which rows."""

    label: str  # a column, with or without "label_"
    conditions: tuple[str, ...] = setting(
        (), "Comma-separated labels that are to stay as they are.", flag="condition"
    )
    threshold: float | None = setting(
        None, "Values above it count as positive. Default: the mean of the rows."
    )
    positive: str | None = setting(None, "Of texts, the one that counts as positive.")
    layers: tuple[int, ...] | None = None  # that the direction may change; None: all
    label_file: str | None = setting(
        None, "CSV or Parquet file with the labels, if they are not among the rows.", flag="labels"
    )
    label_on: str = setting(
        "key",
        "Column of --labels that holds the keys of images, or names of their files.",
        flag="on",
    )
    max_rows: int = setting(20_000, "Rows drawn at random where there are more.", least=1)
    seed: int = setting(0, "Of the rows drawn, and of those held out.", least=0)


@dataclass(frozen=True)
class Boundary:
    """A linear boundary between rows with a label and rows without."""

    label: str
    normal: np.ndarray  # [n] unit length, towards the yes
    accuracy: float  # on rows held out
    majority: float  # what the larger class alone would give there
    n_train: int
    n_test: int

    @property
    def interval(self) -> tuple[float, float]:
        """In which the accuracy on any rows like these lies, at 95 % (Wilson's score interval)."""
        n, p = self.n_test, self.accuracy
        middle, scale = p + Z_95**2 / (2 * n), 1 + Z_95**2 / n
        room = Z_95 * math.sqrt(p * (1 - p) / n + Z_95**2 / (4 * n**2))
        return (middle - room) / scale, (middle + room) / scale


@dataclass(frozen=True)
class Learned:
    """A direction and how good it is."""

    vectors: np.ndarray  # [n_styles, w_dim] float32; strength 1 is a standard deviation of the rows
    target: Boundary
    conditions: list[Boundary]
    remainder: float  # length of the normal after projection, of 1 before
    about: dict[str, Any]  # for the header of its file


def learn(latents: str, config: LearnConfig) -> Learned:
    """Learn the direction of a label from the rows of a folder whose status is ok; see :func:`fit`.

    Raises:
        ConfigError: no such label, too few rows, a condition that is the label over again.
    """
    labels = [config.label, *config.conditions]
    ds = LatentDataset(latents, labels=config.label_file, on=config.label_on)
    rows, columns = known_rows(ds, labels, config.max_rows, config.seed)
    if len(rows) < 2 * MIN_ROWS:
        raise ConfigError(
            f"{len(rows)} rows of {ds.address} are ok and have {', '.join(labels)}; at least "
            f"{2 * MIN_ROWS} are needed{_unlike(ds) if not len(rows) else ''}"
        )
    learned = fit(_latents(ds, rows), columns, config)
    origin = {
        "latents": ds.footer.get("fingerprint"),
        "generator_sha256": ds.footer.get("identity", {}).get("generator_sha256"),
    }
    return replace(learned, about={**learned.about, **origin})


def _unlike(ds: LatentDataset) -> str:
    """Of labels in a file, which keys it has and which the rows: they may be spelt in different ways."""
    if (table := ds.label_table) is None:
        return ""
    theirs = ", ".join(table.keys[:N_SHOWN].to_pylist())
    ours = ", ".join(row["key"] for row in ds[:N_SHOWN])
    return f"; keys there are such as {theirs}, and of the rows {ours}"


def fit(points: np.ndarray, columns: Mapping[str, pa.ChunkedArray], config: LearnConfig) -> Learned:
    """Learn the direction of a label from latents [N, n_styles, w_dim] and labels [N] by name.

    The boundary is a logistic regression, a fifth of the rows held out to measure it. Where labels are
    numbers only the surer rows teach, as in the paper; all of those held out are measured. The normals of
    the conditions are projected out of its normal, so that the direction is parallel to their boundaries
    (section 2.4 of the paper).

    Raises:
        ConfigError: see :func:`learn`.
    """
    own = sides(columns[config.label], config.label, config.threshold, config.positive)
    others = [sides(columns[name], name) for name in config.conditions]
    chosen = points if config.layers is None else points[:, _checked(config.layers, points)]
    flat = chosen.reshape(len(chosen), -1)
    target, *conditions = (
        _boundary(flat, boundary, name, config.seed)
        for name, boundary in zip((config.label, *config.conditions), (own, *others), strict=True)
    )
    normal, remainder = _projected(target.normal, [b.normal for b in conditions])
    if remainder < MIN_REMAINDER:
        raise ConfigError(
            f"{config.label} cannot be told from {', '.join(config.conditions)} here; leave out a condition"
        )
    step = (normal * (flat @ normal).std()).reshape(chosen.shape[1:])
    vectors = np.zeros(points.shape[1:], np.float32)
    vectors[list(config.layers) if config.layers is not None else slice(None)] = step
    about = {
        "method": "normal of a logistic boundary",
        "label": config.label,
        "yes": own.meaning,
        "conditions": list(config.conditions),
        "accuracy": round(target.accuracy, 4),
        "majority": round(target.majority, 4),
        "n_rows": len(points),
        "layers": "all" if config.layers is None else list(config.layers),
        "seed": config.seed,
    }
    return Learned(vectors, target, conditions, remainder, about)


def _latents(ds: LatentDataset, rows: np.ndarray) -> np.ndarray:
    """Latents [N, n_styles, w_dim] float32 of some rows, in stored order, a row group at a time."""
    parts, start = [], 0
    for table in ds.tables(["latent"]):
        end = start + len(table)
        wanted = rows[(rows >= start) & (rows < end)] - start
        if len(wanted):
            picked = table.column("latent").take(pa.array(wanted)).combine_chunks()
            parts.append(dense(picked).astype(np.float32))
        start = end
    return np.concatenate(parts)


def _checked(layers: Sequence[int], points: np.ndarray) -> list[int]:
    n_styles = points.shape[1]
    if any(not 0 <= layer < n_styles for layer in layers):
        raise ConfigError(f"--layers must lie in 0 to {n_styles - 1}")
    return list(layers)


def _boundary(points: np.ndarray, sides: BinaryLabels, label: str, seed: int) -> Boundary:
    """Fit on the sure ones of most rows, measure on the others."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split

    scale = points.std(axis=0).mean() + 1e-12  # one for all: a normal must stay a normal in W+
    points = (points - points.mean(axis=0)) / scale
    train, test = train_test_split(
        np.arange(len(points)), test_size=TEST_SHARE, random_state=seed, stratify=sides.is_positive
    )
    train = train[sides.is_confident[train]]
    # scikit-learn adds the losses up.
    strength = LOSS_WEIGHT / len(train)
    model = LogisticRegression(C=strength, class_weight="balanced", max_iter=1000)
    model.fit(points[train], sides.is_positive[train])
    normal = model.coef_[0].astype(np.float64)
    share = float(sides.is_positive[test].mean())
    return Boundary(
        label,
        normal / np.linalg.norm(normal),
        float(model.score(points[test], sides.is_positive[test])),
        max(share, 1 - share),
        len(train),
        len(test),
    )


def _projected(normal: np.ndarray, others: Sequence[np.ndarray]) -> tuple[np.ndarray, float]:
    """The part of a unit vector that is orthogonal to some others, at unit length; and its length."""
    if not others:
        return normal, 1.0
    # Not QR: of two that are the same it would make a second one out of rounding.
    axes, sizes, _ = np.linalg.svd(np.stack(others, axis=1), full_matrices=False)
    basis = axes[:, sizes > 1e-6 * sizes[0]]
    remainder = normal - basis @ (basis.T @ normal)
    length = float(np.linalg.norm(remainder))
    return remainder / max(length, 1e-12), length


def save(path: str, learned: Learned) -> None:
    """Write the direction for `restyle edit`."""
    import torch

    from generators import directions

    target = learned.target
    notes = f"{target.label}: accuracy {target.accuracy:.3f} on {target.n_test} rows held out"
    directions.save(path, torch.from_numpy(learned.vectors), learned.about, notes)
