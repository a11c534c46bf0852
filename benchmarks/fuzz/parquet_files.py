"""Parquet files with damaged bytes, or whole ones whose columns are not those of a run."""

from __future__ import annotations

import io
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.fuzz import folders
from benchmarks.fuzz.damage import damaged
from benchmarks.fuzz.folders import Files
from benchmarks.fuzz.kinds import Kind

TYPES = (
    pa.string(), pa.binary(), pa.int8(), pa.int64(), pa.uint64(), pa.float16(), pa.float64(),
    pa.bool_(), pa.null(), pa.timestamp("us"), pa.decimal128(5, 2),
    pa.dictionary(pa.int32(), pa.string()), pa.list_(pa.float32()),
    pa.list_(pa.list_(pa.float64())), pa.list_(pa.list_(pa.list_(pa.float32()))),
    pa.list_(pa.float32(), 3), pa.struct([("x", pa.int32())]), pa.list_(pa.string()),
    pa.large_string(), pa.large_list(pa.float32()),
)  # fmt: skip


def _write(draw: Random, given: Path, made: dict[str, Files]) -> None:
    files = folders.chosen(draw, made)
    folders.without_record(files, draw)
    name = folders.a_parquet(draw, files)
    kind = draw.random()
    if kind < 0.3:
        files[name] = damaged(draw, files[name])
    elif kind < 0.6:  # the footer lies behind
        files[name] = damaged(draw, files[name], first=max(0.0, 1 - 9000 / len(files[name])))
    else:
        for each in [n for n in files if n.endswith(".parquet")]:
            if each == name or draw.random() < 0.5:
                files[each] = _other_columns(Random(draw.random()), files[each])
    folders.put(files, given / "lat")


def _other_columns(draw: Random, data: bytes) -> bytes:
    """A file that pyarrow wrote, of rows with columns that are gone, null, or of another type."""
    table = pq.read_table(io.BytesIO(data))
    metadata = table.schema.metadata
    for _ in range(draw.choice((1, 1, 2, 5))):
        at = draw.randrange(table.num_columns) if table.num_columns else 0
        change = draw.choice(
            ("drop", "type", "type", "null", "shuffle", "shape", "twice", "rows", "name")
        )
        table = _changed(draw, table, at, change)
    if draw.random() < 0.9:
        table = table.replace_schema_metadata(metadata)
    out = io.BytesIO()
    with pq.ParquetWriter(out, table.schema) as writer:
        writer.write_table(table, row_group_size=draw.choice((1, 2, 1024)))
        if metadata and draw.random() < 0.9:
            writer.add_key_value_metadata(metadata)
    return out.getvalue()


def _changed(draw: Random, table: pa.Table, at: int, change: str) -> pa.Table:
    if not table.num_columns:
        return table
    field = table.schema.field(at)
    if change == "drop":
        return table.remove_column(at)
    if change == "type":
        type_ = draw.choice(TYPES)
        return table.set_column(at, pa.field(field.name, type_), _values(draw, table, type_))
    if change == "null":
        return table.set_column(
            at, pa.field(field.name, field.type), pa.nulls(len(table), field.type)
        )
    if change == "shuffle":
        order = [draw.randrange(max(1, len(table))) for _ in range(len(table))]
        return table.set_column(at, field, table.column(at).take(pa.array(order, pa.int64())))
    if change == "shape" and pa.types.is_list(field.type):
        rows = [_cut(draw, value) for value in table.column(at).to_pylist()]
        try:
            return table.set_column(at, field, pa.array(rows, field.type))
        except pa.ArrowException:  # lists of fixed sizes inside
            return table
    if change == "twice":
        return table.append_column(
            draw.choice((field.name, "label_x", "a b", "")), table.column(at)
        )
    if change == "rows":
        return (
            table.slice(0, draw.choice((0, 1)))
            if draw.random() < 0.5
            else pa.concat_tables([table] * 3)
        )
    names = [
        *table.column_names[:at],
        draw.choice(table.column_names),
        *table.column_names[at + 1 :],
    ]
    return table.rename_columns(names)


def _cut(draw: Random, value: Any) -> Any:
    if isinstance(value, list) and value and draw.random() < 0.5:
        if draw.random() < 0.5:
            return [_cut(draw, value[0]), *value[1:]]
        return draw.choice(([], value[:-1], [None, *value[1:]], [*value, value[0]]))
    return value


def _values(draw: Random, table: pa.Table, type_: pa.DataType) -> pa.Array:
    """Rows of a type: whatever of a few values it can hold."""
    texts = ("ok", "", "a/../b", "\x1b[2J", "x" * 1000, "/etc/passwd", "a\nb", "crashed", None)
    numbers = (0, 1, -1, 5, 100, 2**31, 2**62, 1.5, float("nan"), float("inf"), None)
    lists = ([], [1.0], [[1.0, 2.0]], [["x"]], [[[1.0]]], [0.0, 1.0, 2.0], ["x"], None)
    rows: list[Any] = []
    for _ in range(len(table)):
        for value in draw.choices((*texts, *numbers, *lists, b"\xff\xfe", {"x": 1}, True), k=20):
            try:
                pa.array([*rows, value], type_)
            except (pa.ArrowException, TypeError, ValueError, OverflowError):
                continue
            rows.append(value)
            break
        else:
            rows.append(None)
    return pa.array(rows, type_)


KIND = Kind("parquet", folders.originals, _write, folders.words, folders.READERS)
