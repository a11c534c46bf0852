"""The Arrow schema of the latent data set, and rows from aligned faces and their inversions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config import LABEL_PREFIX, RunConfig
from pipeline.errors import ConfigError
from pipeline.records import AlignedFace, Status

# Key of our JSON record in a Parquet footer.
FOOTER_KEY = b"restyle"


@dataclass
class Row:
    """One row: a face and, where it was inverted, what came of it."""

    face: AlignedFace
    status: Status
    error: str | None = None
    latents: np.ndarray | None = None  # [n_steps, n_styles, w_dim] float32
    metrics: dict[str, list[float | None]] = field(default_factory=dict)  # one value a step
    aligned_image: bytes | None = None
    reconstruction: bytes | None = None
    labels: Mapping[str, Any] = field(default_factory=dict)  # by column, those that are known
    precision: str | None = None  # that the latents were computed in

    def fail(self, status: Status, error: str) -> None:
        """Of a row that was to be inverted: nothing but OK carries results."""
        self.status, self.error = status, error
        self.latents, self.metrics, self.precision = None, {}, None
        self.aligned_image = self.reconstruction = None


def _nested(value_type: pa.DataType, shape: Sequence[int]) -> pa.DataType:
    """fixed_size_list of fixed_size_list ...; not a tensor extension, so that every reader takes it."""
    for size in reversed(shape):
        value_type = pa.list_(value_type, size)
    return value_type


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
        pa.field("latent", _nested(latent, (n_styles, w_dim))),
    ]
    if config.latents == "all":
        shape = (config.steps, n_styles, w_dim)
        fields.append(pa.field("latents_by_step", _nested(latent, shape)))
    fields += [pa.field(name, pa.list_(pa.float32())) for name in config.metrics]
    fields.append(pa.field("precision", pa.string()))
    if config.align == "face":
        fields += [
            pa.field("landmarks", _nested(pa.float32(), (68, 2))),
            pa.field("quad", _nested(pa.float32(), (4, 2))),
            pa.field("detection_score", pa.float32()),
        ]
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


def nested_array(values: Sequence[np.ndarray | None], type_: pa.DataType) -> pa.Array:
    """Arrays of one shape, or None -> nested fixed-size lists, without a Python object a number."""
    shape: list[int] = []
    inner = type_
    while pa.types.is_fixed_size_list(inner):
        shape.append(inner.list_size)
        inner = inner.value_type
    dense = np.zeros((len(values), *shape), dtype=inner.to_pandas_dtype())
    missing = np.array([value is None for value in values], dtype=bool)
    for i, value in enumerate(values):
        if value is not None:
            dense[i] = value
    array = pa.array(dense.reshape(-1), type=inner)
    for size in reversed(shape[1:]):
        array = pa.FixedSizeListArray.from_arrays(array, size)
    mask = pa.array(missing) if missing.any() else None
    return pa.FixedSizeListArray.from_arrays(array, shape[0], mask=mask)


def dense(array: pa.Array) -> np.ndarray:
    """Nested fixed-size lists, none of them null -> [N, ...], the way back of a latent column."""
    shape = [len(array)]
    while pa.types.is_fixed_size_list(array.type):
        shape.append(array.type.list_size)
        array = array.flatten()
    return array.to_numpy(zero_copy_only=False).reshape(shape)


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
        "latent": [None if row.latents is None else row.latents[-1] for row in rows],
        "latents_by_step": [row.latents for row in rows],
        "precision": [row.precision for row in rows],
        "landmarks": [face.landmarks for face in faces],
        "quad": [face.quad for face in faces],
        "detection_score": [face.detection_score for face in faces],
        "width": [face.width for face in faces],
        "height": [face.height for face in faces],
        "aligned_image": [row.aligned_image for row in rows],
        "reconstruction": [row.reconstruction for row in rows],
    }
    arrays = []
    for column in columns:
        if pa.types.is_fixed_size_list(column.type):
            arrays.append(nested_array(values[column.name], column.type))
        elif column.name in values:
            arrays.append(pa.array(values[column.name], column.type))
        elif column.name.startswith(LABEL_PREFIX):
            labels = [row.labels.get(column.name) for row in rows]
            arrays.append(pa.array(labels, column.type))
        else:
            metric = [row.metrics.get(column.name) for row in rows]
            arrays.append(pa.array(metric, column.type))
    return pa.record_batch(arrays, schema=columns)


def footer(metadata: pq.FileMetaData) -> dict[str, Any]:
    """Our record in a file's footer; {} in a file of another origin."""
    return json.loads((metadata.metadata or {}).get(FOOTER_KEY, b"{}"))


def latent_shape(latents: Any) -> tuple[int, int]:
    """(n_styles, w_dim) of a latent column's Arrow type.

    Raises:
        ConfigError: it is no column of latents.
    """
    try:
        return latents.list_size, latents.value_type.list_size
    except AttributeError:
        raise ConfigError(f"the column latent is {latents}, not a list of style vectors") from None
