"""Latents as a data set for the Hugging Face Hub: Parquet whose pictures are images there, and a card."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from generators.files import atomic
from pipeline.config import METRICS
from pipeline.latents import LatentDataset
from pipeline.latents.card import Story, card
from pipeline.latents.export import Exported, require_new, written
from pipeline.latents.schema import latent_shape
from pipeline.storage import outputs

# Metadata of a schema, by which the library `datasets` knows what a column is.
FEATURES_KEY = b"huggingface"
PICTURES = ("aligned_image", "reconstruction")
PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])  # of its feature Image
LEFT_OUT = ("status", "error")  # all rows are ok
HOW: dict[str, Any] = {"compression": "zstd"}
ROW_GROUP = 100  # rows: the Hub's viewer fetches one at a time
RECORD = "restyle.json"
Progress = Callable[[int], None]


def to_hub(
    rows: LatentDataset,
    out: str,
    per_file: int,
    where: str | None = None,
    progress: Progress = lambda n: None,
) -> Exported:
    """A folder to be uploaded: ``data/train-<i>-of-<n>.parquet``, ``README.md``, the card, and
    ``restyle.json``, what the footers say of the run.

    Of a shard's address the file's name alone is kept, and of a model's path too: others are not to see how
    this machine's folders are called.

    Args:
        per_file: rows in a file.
        where: which rows these are, for the card.

    Raises:
        ConfigError: the folder is there and not empty, or cannot be written.
    """
    folder = outputs.writable_folder(out)
    require_new(folder.iterdir())
    names = [name for name in rows.schema.names if name not in LEFT_OUT]
    schema = _schema(rows.schema, names)
    n_files = max(1, math.ceil(len(rows) / per_file))
    exported, medians = Exported(), _Medians(names)
    pieces = _pieces(rows, names, per_file)
    for i in range(n_files):
        path = folder / "data" / f"train-{i:05}-of-{n_files:05}.parquet"
        with written(path) as part, pq.ParquetWriter(part, schema, **HOW) as writer:
            for table in next(pieces):
                medians.add(table)
                writer.write_table(_cast(table, schema), row_group_size=ROW_GROUP)
                exported.n_rows += len(table)
                progress(len(table))
        exported.paths.append(path)
    story = Story(
        footer=rows.footer,
        n_by_status=rows.n_by_status,
        n_rows=exported.n_rows,
        where=where,
        columns=names,
        latent_shape=latent_shape(rows.schema.field("latent")),
        medians=medians.found(),
    )
    atomic.write_bytes(folder / RECORD, _record(rows.footer))
    atomic.write_bytes(folder / "README.md", card(story).encode())
    return exported


def _record(footer: Mapping[str, Any]) -> bytes:
    kept = {name: value for name, value in footer.items() if name not in ("source", "shard")}
    for name in ("model", "then", "generator"):
        if isinstance(kept.get(name), str):
            kept[name] = PurePosixPath(kept[name]).name
    return (json.dumps(kept, indent=1) + "\n").encode()


def _schema(source: pa.Schema, names: list[str]) -> pa.Schema:
    fields = [
        pa.field(name, PICTURE) if name in PICTURES else source.field(name).remove_metadata()
        for name in names
    ]
    images = {name: {"_type": "Image"} for name in names if name in PICTURES}
    # Features of other columns are those of their types.
    told = {"info": {"features": images}} if images else None
    schema = pa.schema(fields)
    return schema if told is None else schema.with_metadata({FEATURES_KEY: json.dumps(told)})


def _pieces(rows: LatentDataset, names: list[str], per_file: int) -> Iterator[Iterator[pa.Table]]:
    """The rows of each file, in tables of a few."""
    tables = rows.tables(names)
    left: list[pa.Table] = []

    def one_file() -> Iterator[pa.Table]:
        n = per_file
        while n:
            table = left.pop() if left else next(tables, None)
            if table is None:
                return
            if len(table) > n:
                left.append(table.slice(n))
            yield table.slice(0, n)
            n -= min(n, len(table))

    while True:
        yield one_file()


def _cast(table: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        array = column.combine_chunks()
        if name in PICTURES:
            array = _pictures(array, table.column("key").to_pylist())
        elif name == "shard":
            array = pa.array([PurePosixPath(s).name for s in column.to_pylist()], pa.string())
        columns.append(array)
    return pa.table(columns, schema=schema)


def _pictures(data: pa.Array, keys: list[str]) -> pa.Array:
    """Pictures as the feature Image stores them, null where there is none."""
    names = [
        None if image is None else f"{PurePosixPath(key).name}.{_kind(image)}"
        for image, key in zip(data.to_pylist(), keys, strict=True)
    ]
    parts = [data.cast(pa.binary()), pa.array(names, pa.string())]
    return pa.StructArray.from_arrays(parts, fields=list(PICTURE), mask=data.is_null())


def _kind(image: bytes) -> str:
    return "png" if image.startswith(b"\x89PNG") else "jpg"


class _Medians:
    """Of each metric, at the first step and at the last that a row has."""

    def __init__(self, names: list[str]) -> None:
        self._values: dict[str, list[np.ndarray]] = {n: [] for n in names if n in METRICS}

    def add(self, table: pa.Table) -> None:
        """Some more rows."""
        for name, found in self._values.items():
            steps = [v or [None] for v in table.column(name).to_pylist()]
            ends = [[v[0], v[-1]] for v in steps]
            found.append(np.array(ends, np.float64).reshape(-1, 2))

    def found(self) -> dict[str, tuple[float, float]]:
        """Of each that was measured: the two, NaN where no row has one."""
        medians = {}
        for name, parts in self._values.items():
            values = np.concatenate(parts) if parts else np.empty((0, 2))
            known = [column[~np.isnan(column)] for column in values.T]
            first, last = (float(np.median(v)) if len(v) else math.nan for v in known)
            medians[name] = (first, last)
        return medians
