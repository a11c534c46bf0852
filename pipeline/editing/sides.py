"""Labels -> the two sides of a boundary: which rows are a yes, and which are sure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config import LABEL_PREFIX
from pipeline.errors import ConfigError
from pipeline.latents import LatentDataset

MIN_ROWS = 20  # of each side; fewer teach nothing that holds
# Rows nearer to the bound than this share of the median of their side are not sure: their pictures hardly
# show on which side they are. Half a standard deviation where a label is normal.
MARGIN = 0.75


@dataclass(frozen=True)
class BinaryLabels:
    """Of some rows."""

    is_positive: np.ndarray  # [N] bool
    is_confident: np.ndarray  # [N] bool: far enough from the bound to learn from
    meaning: str  # of a yes


def known_rows(
    ds: LatentDataset, labels: Sequence[str], max_rows: int, seed: int
) -> tuple[np.ndarray, dict[str, pa.ChunkedArray]]:
    """The rows that are ok and have all labels, at most so many of them, and these labels.

    Raises:
        ConfigError: no such label.
    """
    is_used = pc.equal(ds.table(["status"]).column("status"), "ok").to_numpy()
    columns = {}
    for name in labels:
        columns[name] = ds.table([_column(ds, name)]).column(0)
        is_used = is_used & _is_known(columns[name])
    rows = np.flatnonzero(is_used)
    if len(rows) > max_rows:
        drawn = np.random.default_rng(seed).permutation(len(rows))[:max_rows]
        rows = rows[np.sort(drawn)]
    return rows, {name: column.take(pa.array(rows)) for name, column in columns.items()}


def sides(
    column: pa.ChunkedArray, label: str, threshold: float | None = None, positive: str | None = None
) -> BinaryLabels:
    """The sides of a label without nulls.

    Args:
        threshold: numbers above it are a yes; None: above their mean.
        positive: of texts, the one that is a yes; None: of two, the later in the alphabet.

    Raises:
        ConfigError: no label of two sides, or too few rows on one of them.
    """
    labels = _sides(column, label, threshold, positive)
    n_rare = min(labels.is_positive.sum(), (~labels.is_positive).sum())
    if n_rare < MIN_ROWS:
        raise ConfigError(
            f"of {len(column)} rows with {label}, {n_rare} are on one side of its boundary; {MIN_ROWS} "
            "are needed on each, so invert more images, or pass another --threshold"
        )
    return labels


def _column(ds: LatentDataset, label: str) -> str:
    """The column of a label.

    Raises:
        ConfigError: there is none; those that there are get named.
    """
    names = ds.schema.names
    if "direction" in names:
        raise ConfigError(
            f"{ds.address} holds edits, whose labels are those of before; learn from the "
            "latents that they were made from"
        )
    for name in (LABEL_PREFIX + label, label):
        if name in names:
            return name
    labels = ", ".join(n.removeprefix(LABEL_PREFIX) for n in names if n.startswith(LABEL_PREFIX))
    raise ConfigError(
        f"{ds.address} has no label {label!r} (it has {labels or 'none'}); labels come from "
        "restyle invert --keep-fields json, or from a file with --labels"
    )


def _is_known(column: pa.ChunkedArray) -> np.ndarray:
    is_valid = column.is_valid()
    if pa.types.is_floating(column.type):
        is_valid = pc.and_(is_valid, pc.fill_null(pc.is_finite(column), False))
    return is_valid.to_numpy()


def _sides(
    column: pa.ChunkedArray, label: str, threshold: float | None, positive: str | None
) -> BinaryLabels:
    if pa.types.is_boolean(column.type):
        return BinaryLabels(column.to_numpy(), np.ones(len(column), bool), "true")
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return _numbers(column.to_numpy().astype(np.float64), threshold)
    if not pa.types.is_string(column.type):
        raise ConfigError(f"{label} is a column of {column.type}, but numbers or texts are needed")
    values = pc.unique(column).to_pylist()
    if positive is None and len(values) == 2:
        positive = max(values)
    if positive is None or positive not in values:
        some = ", ".join(map(repr, sorted(values)[:5]))
        raise ConfigError(f"{label} has {len(values)} values ({some} ...); pass one as --positive")
    is_positive = pc.equal(column, positive).to_numpy()
    return BinaryLabels(is_positive, np.ones(len(column), bool), repr(positive))


def _numbers(values: np.ndarray, threshold: float | None) -> BinaryLabels:
    # The mean: between the two values of a yes-or-no, in the middle of what is spread evenly.
    bound = float(values.mean()) if threshold is None else threshold
    is_positive, distance = values > bound, np.abs(values - bound)
    is_confident = np.ones(len(values), bool)
    for side in (is_positive, ~is_positive):
        if side.any():
            is_confident[side] = distance[side] >= MARGIN * np.median(distance[side])
    return BinaryLabels(is_positive, is_confident, f"above {bound:.6g}")
