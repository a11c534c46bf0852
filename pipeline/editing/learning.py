"""Directions learned from labels: the normal of a linear boundary in W+ (InterFaceGAN, arXiv 2005.09635)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.config import ConfigError
from pipeline.editing.edit import sources
from pipeline.latents import LatentDataset, footer
from pipeline.schema import dense

PREFIX = "label_"
MIN_ROWS = 20  # of each class; fewer teach nothing that holds
TEST_SHARE = 0.2
# Inverse strength of the penalty, for latents scaled to unit variance on average. Strong: W+ has more entries
# than a folder has rows.
PENALTY_C = 1e-3
MIN_REMAINDER = 0.05  # of a normal after projection; less is another label's direction with noise


@dataclass(frozen=True)
class LearnConfig:
    """What is learned, from which rows."""

    label: str  # a column, with or without "label_"
    conditions: tuple[str, ...] = ()  # labels that are to stay as they are
    threshold: float | None = None  # numbers above it are a yes; None: the mean of the rows
    positive: str | None = None  # of texts, the one that is a yes
    layers: tuple[int, ...] | None = None  # that the direction may change; None: all
    max_rows: int = 20_000  # drawn at random where there are more
    seed: int = 0  # of the rows drawn and of those held out


@dataclass(frozen=True)
class Boundary:
    """A linear boundary between rows with a label and rows without."""

    label: str
    normal: np.ndarray  # [n] unit length, towards the yes
    accuracy: float  # on rows held out
    majority: float  # what the larger class alone would give there
    n_train: int
    n_test: int


@dataclass(frozen=True)
class Learned:
    """A direction and how good it is."""

    vectors: np.ndarray  # [n_styles, w_dim] float32; strength 1 is a standard deviation of the rows
    target: Boundary
    conditions: list[Boundary]
    remainder: float  # length of the normal after projection, of 1 before
    about: dict[str, Any]  # for the header of its file


def learn(latents: str, config: LearnConfig) -> Learned:
    """Learn the direction of a label.

    The boundary is a logistic regression of rows whose status is ok, a fifth of them held out to measure
    it. The normals of the conditions are projected out of its normal, so that the direction is parallel to
    their boundaries (section 2.4 of the paper).

    Raises:
        ConfigError: no such label, too few rows, a condition that is the label over again.
    """
    labels = [config.label, *config.conditions]
    classes, rows, said = _classes(latents, labels, config)
    points, record = _latents(latents, rows)
    chosen = points if config.layers is None else points[:, _checked(config.layers, points)]
    flat = chosen.reshape(len(chosen), -1)
    boundaries = [_boundary(flat, classes[name], name, config.seed) for name in labels]
    normal, remainder = _projected(boundaries[0].normal, [b.normal for b in boundaries[1:]])
    if remainder < MIN_REMAINDER:
        raise ConfigError(
            f"{config.label} cannot be told from {', '.join(config.conditions)} here; leave out a condition"
        )
    step = (normal * (flat @ normal).std()).reshape(chosen.shape[1:])
    vectors = np.zeros(points.shape[1:], np.float32)
    vectors[list(config.layers) if config.layers is not None else slice(None)] = step
    target = boundaries[0]
    about = {
        "method": "normal of a logistic boundary",
        "label": config.label,
        "yes": said,
        "conditions": list(config.conditions),
        "accuracy": round(target.accuracy, 4),
        "majority": round(target.majority, 4),
        "n_rows": target.n_train + target.n_test,
        "layers": "all" if config.layers is None else list(config.layers),
        "seed": config.seed,
        "latents": record.get("fingerprint"),
        "generator_sha256": record.get("identity", {}).get("generator_sha256"),
    }
    return Learned(vectors, target, boundaries[1:], remainder, about)


def _classes(
    latents: str, labels: Sequence[str], config: LearnConfig
) -> tuple[dict[str, np.ndarray], np.ndarray, str]:
    """Yes or no of each label for the rows that have all of them, which rows, and what a yes is."""
    ds = LatentDataset(latents)
    known = ds.table(["status"]).column("status")
    is_used = pc.equal(known, "ok").to_numpy()
    columns = {}
    for name in labels:
        columns[name] = ds.table([_column(latents, name)]).column(0)
        is_used = is_used & _is_known(columns[name])
    rows = np.flatnonzero(is_used)
    if len(rows) > config.max_rows:
        drawn = np.random.default_rng(config.seed).permutation(len(rows))[: config.max_rows]
        rows = rows[np.sort(drawn)]
    found, said = {}, ""
    for name in labels:
        own = (config.threshold, config.positive) if name == config.label else (None, None)
        found[name], meaning = _yes(columns[name].take(pa.array(rows)), name, *own)
        said = said or meaning
        n_rare = min(found[name].sum(), (~found[name]).sum())
        if n_rare < MIN_ROWS:
            raise ConfigError(
                f"of {len(rows)} rows with {name}, {n_rare} are on one side of its boundary; {MIN_ROWS} "
                "are the least on each, so invert more images, or pass another --threshold"
            )
    return found, rows, said


def _column(latents: str, label: str) -> str:
    """The column of a label.

    Raises:
        ConfigError: there is none; those that there are get named.
    """
    files, path = storage.filesystem(sources(latents)[0])
    with files.open_input_file(path) as file:
        names = pq.ParquetFile(file).schema_arrow.names
    for name in (PREFIX + label, label):
        if name in names:
            return name
    there = ", ".join(n.removeprefix(PREFIX) for n in names if n.startswith(PREFIX))
    raise ConfigError(
        f"{storage.public(latents)} has no label {label!r} (it has {there or 'none'}); labels come from "
        "restyle invert --keep-fields json"
    )


def _is_known(column: pa.ChunkedArray) -> np.ndarray:
    known = column.is_valid()
    if pa.types.is_floating(column.type):
        known = pc.and_(known, pc.fill_null(pc.is_finite(column), False))
    return known.to_numpy()


def _yes(
    column: pa.ChunkedArray, label: str, threshold: float | None, positive: str | None
) -> tuple[np.ndarray, str]:
    """Which rows are a yes, and what makes them one."""
    if pa.types.is_boolean(column.type):
        return column.to_numpy(), "true"
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        values = column.to_numpy().astype(np.float64)
        # The mean: between the two values of a yes-or-no, in the middle of what is spread evenly.
        bound = float(values.mean()) if threshold is None else threshold
        return values > bound, f"above {bound:.6g}"
    if not pa.types.is_string(column.type):
        raise ConfigError(
            f"{label} is a column of {column.type}, where numbers or texts are needed"
        )
    values = pc.unique(column).to_pylist()
    if positive is None and len(values) == 2:
        positive = max(values)
    if positive is None or positive not in values:
        some = ", ".join(map(repr, sorted(values)[:5]))
        raise ConfigError(f"{label} has {len(values)} values ({some} ...); pass one as --positive")
    return pc.equal(column, positive).to_numpy(), repr(positive)


def _latents(latents: str, rows: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    """Latents [N, n_styles, w_dim] float32 of some rows, in stored order, a row group at a time."""
    found, start, record = [], 0, {}
    for url in sources(latents):
        files, path = storage.filesystem(url)
        with files.open_input_file(path) as file:
            source = pq.ParquetFile(file)
            record = footer(source.metadata)
            for group in range(source.num_row_groups):
                end = start + source.metadata.row_group(group).num_rows
                wanted = rows[(rows >= start) & (rows < end)] - start
                if len(wanted):
                    column = source.read_row_group(group, columns=["latent"]).column("latent")
                    picked = column.take(pa.array(wanted)).combine_chunks()
                    found.append(dense(picked).astype(np.float32))
                start = end
    return np.concatenate(found), record


def _checked(layers: Sequence[int], points: np.ndarray) -> list[int]:
    n_styles = points.shape[1]
    if any(not 0 <= layer < n_styles for layer in layers):
        raise ConfigError(f"--layers must lie in 0 to {n_styles - 1}")
    return list(layers)


def _boundary(points: np.ndarray, yes: np.ndarray, label: str, seed: int) -> Boundary:
    """Fit on most rows, measure on the others."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split

    scale = points.std(axis=0).mean() + 1e-12  # one for all: a normal must stay a normal in W+
    train, test, yes_train, yes_test = train_test_split(
        (points - points.mean(axis=0)) / scale,
        yes,
        test_size=TEST_SHARE,
        random_state=seed,
        stratify=yes,
    )
    model = LogisticRegression(C=PENALTY_C, class_weight="balanced", max_iter=1000)
    model.fit(train, yes_train)
    normal = model.coef_[0].astype(np.float64)
    share = float(yes_test.mean())
    return Boundary(
        label,
        normal / np.linalg.norm(normal),
        float(model.score(test, yes_test)),
        max(share, 1 - share),
        len(train),
        len(test),
    )


def _projected(normal: np.ndarray, others: Sequence[np.ndarray]) -> tuple[np.ndarray, float]:
    """The part of a unit vector that is orthogonal to some others, at unit length; and its length."""
    if not others:
        return normal, 1.0
    basis, _ = np.linalg.qr(np.stack(others, axis=1))
    left = normal - basis @ (basis.T @ normal)
    length = float(np.linalg.norm(left))
    return left / max(length, 1e-12), length


def save(path: str, learned: Learned) -> None:
    """Write the direction for `restyle edit`."""
    import torch

    from generators import directions

    target = learned.target
    notes = f"{target.label}: accuracy {target.accuracy:.3f} on {target.n_test} rows held out"
    directions.save(path, torch.from_numpy(learned.vectors), learned.about, notes)
