"""Arrow columns as what torch takes: tensors, numbers and texts, for one row or for a batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.errors import ConfigError
from pipeline.latents.schema import dense, is_nested, numbers_type, value_shape


@dataclass(frozen=True)
class Arrays:
    """Arrays of one shape, one per row: latents, landmarks, the metrics of the steps."""

    values: np.ndarray  # [N, ...]; NaN where there is none
    valid: np.ndarray | None  # [N] bool; None: all

    def item(self, row: int) -> Any:
        """A tensor of its own, or None."""
        import torch

        if self.valid is not None and not self.valid[row]:
            return None
        return torch.from_numpy(self.values[row].copy())


@dataclass(frozen=True)
class Numbers:
    """One number a row. Missing ones do not make floats of the whole ones beside them."""

    values: np.ndarray  # [N]; anything where there is none
    valid: np.ndarray | None  # [N] bool; None: all, or NaN says it

    def item(self, row: int) -> Any:
        """A number, NaN where there is none."""
        if self.valid is not None and not self.valid[row]:
            return math.nan
        return self.values[row].item()


@dataclass(frozen=True)
class Texts:
    """One text a row, "" where there is none; or something else that torch has no type for."""

    values: list[Any]

    def item(self, row: int) -> Any:
        """The text of a row."""
        return self.values[row]


@dataclass(frozen=True)
class Pictures:
    """One picture a row, encoded until it is asked for."""

    values: list[bytes | None]

    def item(self, row: int) -> Any:
        """[3, H, W] float32 in [-1, 1], or None."""
        import torch

        from pipeline.faces import images

        data = self.values[row]
        if data is None:
            return None
        try:
            pixels = torch.from_numpy(images.decode(data))
        except images.ImageError as error:
            raise ConfigError(f"the picture in a row cannot be shown: {error}") from None
        return pixels.permute(2, 0, 1).float().div_(127.5).sub_(1)


Column = Arrays | Numbers | Texts | Pictures
Columns = dict[str, Column]


def decoded(table: pa.Table, n_steps: int = 0) -> Columns:
    """The columns of a table, without copying their numbers where that is possible.

    n_steps: of the run, for row groups of failures alone, whose metrics do not tell.

    Raises:
        ConfigError: a column holds text that is none.
    """
    found: Columns = {}
    for name in table.column_names:
        try:
            found[name] = _decoded(table.column(name), table.schema.field(name), n_steps)
        except UnicodeDecodeError:
            raise ConfigError(
                f"the column {name} holds text that is not UTF-8, so its file is damaged; `restyle "
                "verify` says which one, get it again"
            ) from None
    return found


def _decoded(column: pa.ChunkedArray, field: pa.Field, n_steps: int) -> Column:
    # combine_chunks copies a single chunk too.
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    type_ = array.type
    if is_nested(type_):
        return _nested(array, value_shape(field))
    if pa.types.is_list(type_) and pa.types.is_floating(type_.value_type):
        return _steps(array, n_steps)
    if pa.types.is_floating(type_):
        return Numbers(array.to_numpy(zero_copy_only=False), None)
    if pa.types.is_boolean(type_) or pa.types.is_integer(type_):
        valid = array.is_valid().to_numpy(zero_copy_only=False) if array.null_count else None
        blank = False if pa.types.is_boolean(type_) else 0
        return Numbers(array.fill_null(blank).to_numpy(zero_copy_only=False), valid)
    if pa.types.is_binary(type_) or pa.types.is_large_binary(type_):
        return Pictures(array.to_pylist())
    if pa.types.is_string(type_) or pa.types.is_large_string(type_):
        return Texts(array.fill_null("").to_pylist())
    return Texts(array.to_pylist())


def _nested(array: pa.Array, shape: tuple[int, ...] | None) -> Arrays | Texts:
    if numbers_type(array.type).to_pandas_dtype() is np.object_:
        return Texts(array.to_pylist())
    if not array.null_count:
        return Arrays(dense(array, shape), None)
    valid = array.is_valid().to_numpy(zero_copy_only=False)
    rows = dense(array.drop_null(), shape)
    missing = np.nan if rows.dtype.kind == "f" else 0
    values = np.full((len(array), *rows.shape[1:]), missing, rows.dtype)
    values[valid] = rows
    return Arrays(values, valid)


def _steps(array: pa.ListArray, n_steps: int) -> Arrays:
    """Lists of floats; a shorter one, or a null in one, is NaN."""
    lengths = array.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    values = np.full((len(array), lengths.max(initial=n_steps)), np.nan, np.float32)
    values[np.arange(values.shape[1]) < lengths[:, None]] = array.flatten().to_numpy(
        zero_copy_only=False
    )
    valid = array.is_valid().to_numpy(zero_copy_only=False) if array.null_count else None
    return Arrays(values, valid)


def item(columns: Columns, row: int) -> dict[str, Any]:
    """One row."""
    return {name: column.item(row) for name, column in columns.items()}


def gather(groups: Sequence[Columns], which: np.ndarray, rows: np.ndarray) -> dict[str, Any]:
    """Rows of several groups as one batch: tensors [N, ...], lists of texts.

    Numbers and arrays that a row does not have are NaN; where all have one, they keep their type. Pictures
    are [N, 3, H, W] where they are all there and of one size, else a list.

    Args:
        which: [N] index into ``groups`` of each row.
        rows: [N] its index in that group.
    """
    return {name: _gathered([group[name] for group in groups], which, rows) for name in groups[0]}


def _gathered(columns: Sequence[Column], which: np.ndarray, rows: np.ndarray) -> Any:
    import torch

    if isinstance(columns[0], Arrays | Numbers):
        return torch.from_numpy(_gathered_arrays(columns, which, rows))
    items = [columns[g].item(r) for g, r in zip(which, rows, strict=True)]
    if isinstance(columns[0], Texts):
        return items
    shapes = {None if picture is None else picture.shape for picture in items}
    return torch.stack(items) if len(shapes) == 1 and None not in shapes else items


def _gathered_arrays(columns: Sequence[Any], which: np.ndarray, rows: np.ndarray) -> np.ndarray:
    places = {group: which == group for group in np.unique(which)}
    parts = {group: _taken(columns[group], rows[place]) for group, place in places.items()}
    if len(parts) == 1:
        return next(iter(parts.values()))
    if len({part.shape[1:] for part in parts.values()}) > 1:
        parts = _of_one_width(parts)
    shape = next(iter(parts.values())).shape[1:]
    out = np.empty((len(rows), *shape), np.result_type(*parts.values()))
    for group, part in parts.items():
        out[places[group]] = part
    return out


def _taken(column: Arrays | Numbers, rows: np.ndarray) -> np.ndarray:
    values = column.values[rows]
    if isinstance(column, Arrays) or column.valid is None:
        return values
    valid = column.valid[rows]
    return values if valid.all() else np.where(valid, values, np.nan)


def _of_one_width(parts: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
    """Lists of files of another origin; the shorter ones end in NaN."""
    width = max(part.shape[1] for part in parts.values())
    return {
        group: np.pad(part, ((0, 0), (0, width - part.shape[1])), constant_values=np.nan)
        for group, part in parts.items()
    }
