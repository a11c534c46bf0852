"""The Arrow schema of the latent data set, and rows from aligned faces and their inversions."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.config import LABEL_PREFIX, RunConfig
from pipeline.errors import ConfigError
from pipeline.records import AlignedFace, Status

# Key of an array's shape in the metadata of its column.
SHAPE_KEY = b"shape"
GAP = "an array in a column of lists has a gap; the file is damaged"
MAX_SIDE = 1 << 20  # of a shape that a file states


@dataclass
class Row:
    """One row: a face and, where it was inverted, what came of it."""

    face: AlignedFace
    status: Status
    error: str | None = None
    latents: np.ndarray | None = (
        None  # [n_steps, n_styles, w_dim] float32; the last is the one kept
    )
    metrics: dict[str, list[float | None]] = field(default_factory=dict)  # one value per step
    aligned_image: bytes | None = None
    reconstruction: bytes | None = None
    labels: Mapping[str, Any] = field(default_factory=dict)  # by column, those that are known
    precision: str | None = None  # that the latents were computed in
    best_step: int | None = None  # the step (from 1) of least mse, where that is measured
    smoothed: np.ndarray | None = (
        None  # [n_styles, w_dim]: of a frame, what is kept for the last latent
    )
    is_worse: bool = False  # whether the last step is clearly worse than that one

    def fail(self, status: Status, error: str) -> None:
        """Of a row that was to be inverted: nothing but OK carries results."""
        self.status, self.error = status, error
        self.latents, self.metrics, self.precision = None, {}, None
        self.best_step, self.is_worse = None, False
        self.aligned_image = self.reconstruction = self.smoothed = None

    @property
    def latent(self) -> np.ndarray | None:
        """[n_styles, w_dim]: that which is kept."""
        if self.latents is None or self.smoothed is not None:
            return self.smoothed
        return np.asarray(self.latents[-1])


def _nested(name: str, numbers: pa.DataType, shape: Sequence[int]) -> pa.Field:
    """A column of arrays: lists of fixed_size_list, their shape in the field's metadata.

    Not a tensor extension, so that every reader takes it; and no fixed sizes but the last, for pyarrow
    before 26 cannot read nested ones with null rows among them (apache/arrow issue 35692).
    """
    type_ = pa.list_(numbers, shape[-1])
    for _ in shape[:-1]:
        type_ = pa.list_(type_)
    return pa.field(name, type_, metadata={SHAPE_KEY: json.dumps(list(shape)).encode()})


def _latent_type(config: RunConfig) -> pa.DataType:
    return pa.float16() if config.latent_dtype == "float16" else pa.float32()


def schema(config: RunConfig, n_styles: int, w_dim: int) -> pa.Schema:
    """Columns in the order of the design, those that were not asked for left out."""
    latent = _latent_type(config)
    fields = [
        pa.field("key", pa.string(), nullable=False),
        pa.field("shard", pa.string(), nullable=False),
        pa.field("sample_index", pa.int32(), nullable=False),
        pa.field("face", pa.int16(), nullable=False),
        pa.field("n_faces", pa.int16(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("error", pa.string()),
        _nested("latent", latent, (n_styles, w_dim)),
    ]
    if config.latents == "all":
        fields.append(_nested("latents_by_step", latent, (config.n_entries, n_styles, w_dim)))
    fields += [pa.field(name, pa.list_(pa.float32())) for name in config.metrics]
    fields += [
        pa.field("best_step", pa.int16()),
        pa.field("n_steps", pa.int16()),
        pa.field("precision", pa.string()),
    ]
    if config.align == "face":
        fields += [
            _nested("landmarks", pa.float32(), (68, 2)),
            _nested("quad", pa.float32(), (4, 2)),
            pa.field("detection_score", pa.float32()),
        ]
    if config.align == "face" and config.clips is not None:
        fields += [pa.field("track", pa.int32()), pa.field("is_interpolated", pa.bool_())]
    fields += [pa.field("width", pa.int32()), pa.field("height", pa.int32())]
    fields += [
        pa.field(name, pa.type_for_alias(config.labels[name])) for name in sorted(config.labels)
    ]
    if config.save_images:
        fields += [
            pa.field("aligned_image", pa.binary()),
            pa.field("reconstruction", pa.binary()),
        ]
    return pa.schema(fields)


def is_nested(type_: pa.DataType) -> bool:
    """Whether a column holds arrays: lists of lists, or (in folders before protocol 3) of fixed size."""
    if pa.types.is_fixed_size_list(type_):
        return True
    return _is_list(type_) and _is_list(type_.value_type)


def _is_list(type_: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(type_)
        or pa.types.is_large_list(type_)
        or pa.types.is_fixed_size_list(type_)
    )


def n_axes(type_: pa.DataType) -> int:
    """How many lists are in each other."""
    n = 0
    while _is_list(type_):
        n, type_ = n + 1, type_.value_type
    return n


def numbers_type(type_: pa.DataType) -> pa.DataType:
    """What lies in the innermost lists."""
    while _is_list(type_):
        type_ = type_.value_type
    return type_


def value_shape(column: pa.Field) -> tuple[int, ...] | None:
    """Shape of each array of a column; None where only its rows tell.

    Raises:
        ConfigError: what the file says of it is no shape.
    """
    sizes, type_ = [], column.type
    while pa.types.is_fixed_size_list(type_):
        sizes.append(type_.list_size)
        type_ = type_.value_type
    if not _is_list(type_):
        return tuple(sizes)
    stated = (column.metadata or {}).get(SHAPE_KEY)
    if stated is None:
        return None
    try:
        shape = json.loads(stated)
    except (ValueError, RecursionError):
        shape = None
    if not _is_shape_of(shape, column.type):
        raise ConfigError(
            f"the shape that is stated for the column {column.name} does not fit {column.type}"
        )
    return tuple(shape)


def _is_shape_of(shape: Any, type_: pa.DataType) -> bool:
    if not isinstance(shape, list):
        return False
    for size in shape:
        if not _is_list(type_) or type(size) is not int or not 0 < size <= MAX_SIDE:
            return False
        if pa.types.is_fixed_size_list(type_) and type_.list_size != size:
            return False
        type_ = type_.value_type
    return not _is_list(type_)


def nested_array(values: Sequence[np.ndarray | None], column: pa.Field) -> pa.Array:
    """Arrays of one shape, or None -> nested lists, without a Python object per number."""
    present = [value for value in values if value is not None]
    shape = value_shape(column) or (present[0].shape if present else ())
    type_ = column.type
    filled = values if pa.types.is_fixed_size_list(type_) else present
    numbers = np.zeros((len(filled), *shape), dtype=numbers_type(type_).to_pandas_dtype())
    for i, value in enumerate(filled):
        if value is not None:
            numbers[i] = value
    missing = np.array([value is None for value in values], dtype=bool)
    return _lists(numbers, missing, type_)


def _lists(dense: np.ndarray, missing: np.ndarray, type_: pa.DataType) -> pa.Array:
    """[n, ...] -> an array of this type; variable lists hold the rows that are there, fixed ones all."""
    types = [type_]
    while _is_list(types[-1]):
        types.append(types[-1].value_type)
    array = pa.array(dense.reshape(-1), type=types[-1])
    for axis in range(dense.ndim - 1, 1, -1):
        n = int(np.prod(dense.shape[:axis]))
        if pa.types.is_fixed_size_list(types[axis - 1]):
            array = pa.FixedSizeListArray.from_arrays(array, type=types[axis - 1])
        else:
            offsets = np.arange(n + 1, dtype=np.int32) * dense.shape[axis]
            array = pa.ListArray.from_arrays(pa.array(offsets), array, type=types[axis - 1])
    mask = pa.array(missing) if missing.any() else None
    if pa.types.is_fixed_size_list(type_):
        return pa.FixedSizeListArray.from_arrays(array, type=type_, mask=mask)
    size = dense.shape[1] if dense.ndim > 1 else 0
    offsets = np.concatenate([[0], np.cumsum(~missing) * size]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), array, type=type_, mask=mask)


def dense(array: pa.Array, shape: Sequence[int] | None = None) -> np.ndarray:
    """Nested lists, none of them null -> [N, *shape], without copying where that is possible.

    Args:
        shape: of each row, from `value_shape`; None takes that of the first.

    Raises:
        ConfigError: rows of different shapes, or of another than ``shape``, or gaps inside them.
    """
    sizes = [len(array)]
    while _is_list(array.type):
        if array.null_count:
            raise ConfigError(GAP)
        sizes.append(_length(array, None if shape is None else shape[len(sizes) - 1]))
        array = array.flatten()
    if array.null_count or len(array) != math.prod(sizes):
        raise ConfigError(GAP)
    return array.to_numpy(zero_copy_only=False).reshape(sizes)


def stacked(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Arrays of several rows as one, [N, ...].

    Raises:
        ConfigError: their shapes differ.
    """
    if len({array.shape for array in arrays}) > 1:
        raise ConfigError(
            "latents are of different shapes; `restyle verify` on their folder lists what is damaged"
        )
    return np.stack(arrays)


def _length(array: pa.Array, expected: int | None) -> int:
    """The one length of all lists."""
    if pa.types.is_fixed_size_list(array.type):
        found, is_one = array.type.list_size, True
    else:
        lengths = array.value_lengths().to_numpy(zero_copy_only=False)
        found = int(lengths[0]) if len(lengths) else (expected or 0)
        is_one = bool((lengths == found).all())
    if not is_one or (expected is not None and found != expected):
        raise ConfigError("a column of arrays holds rows of another shape; the file is damaged")
    return found


def record_batch(rows: Sequence[Row], shard: str, columns: pa.Schema) -> pa.RecordBatch:
    """Rows of one shard as Arrow, in the given order."""
    faces = [row.face for row in rows]
    values: dict[str, list[Any]] = {
        "key": [face.key for face in faces],
        "shard": [shard] * len(rows),
        "sample_index": [face.index for face in faces],
        "face": [face.face for face in faces],
        "n_faces": [face.n_faces for face in faces],
        "status": [str(row.status) for row in rows],
        "error": [row.error for row in rows],
        "latent": [row.latent for row in rows],
        "latents_by_step": [row.latents for row in rows],
        "best_step": [row.best_step for row in rows],
        "n_steps": [None if row.latents is None else len(row.latents) for row in rows],
        "precision": [row.precision for row in rows],
        "landmarks": [face.landmarks for face in faces],
        "quad": [face.quad for face in faces],
        "detection_score": [face.detection_score for face in faces],
        "track": [face.track for face in faces],
        "is_interpolated": [face.is_interpolated for face in faces],
        "width": [face.width for face in faces],
        "height": [face.height for face in faces],
        "aligned_image": [row.aligned_image for row in rows],
        "reconstruction": [row.reconstruction for row in rows],
    }
    arrays = []
    for column in columns:
        if is_nested(column.type):
            arrays.append(nested_array(values[column.name], column))
        elif column.name in values:
            arrays.append(pa.array(values[column.name], column.type))
        elif column.name.startswith(LABEL_PREFIX):
            labels = [row.labels.get(column.name) for row in rows]
            arrays.append(pa.array(labels, column.type))
        else:
            metric = [row.metrics.get(column.name) for row in rows]
            arrays.append(pa.array(metric, column.type))
    return pa.record_batch(arrays, schema=columns)


def latent_shape(column: pa.Field) -> tuple[int, int]:
    """(n_styles, w_dim) of a column of latents.

    Raises:
        ConfigError: it is no column of latents, or does not tell their shape.
    """
    shape = value_shape(column) if is_nested(column.type) else None
    if shape is None or len(shape) != 2:
        raise ConfigError(
            f"the column {column.name} is {column.type}, not lists of style vectors of one known shape"
        )
    return shape[0], shape[1]
