"""Labels of many samples in one CSV or Parquet file, joined to rows by their keys.

The file is read whole: it belongs to one data set, not to a shard. Cells of a CSV are texts; what a column
holds is told by the rule of `pipeline.shards.labels`: what most of its cells are, and numbers are float as
soon as one of them has a point.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.config import COLUMN_KEY, LABEL_MEMBERS, LABEL_PREFIX, LABEL_TYPES
from pipeline.errors import ConfigError
from pipeline.records import IMAGE_EXTENSIONS
from pipeline.shards import cells
from pipeline.shards.labels import MAX_COLUMNS
from pipeline.shards.reader import key_and_extension
from pipeline.storage.filesystems import require_regular
from pipeline.storage.urls import HTTP, PIPE

MAX_BYTES = 2 << 30
N_SHOWN = 5  # columns and keys that a message names
DELIMITERS = (",", ";", "\t")
PARQUET = b"PAR1"


@dataclass(frozen=True)
class LabelTable:
    """Labels by key; travels to workers."""

    address: str  # fit to be shown
    on: str  # the column that holds the keys
    keys: pa.Array  # [N] texts, each once
    columns: pa.Table  # [N] rows, `label_<name>` each
    sha256: str  # of the file
    left_out: tuple[str, ...] = ()  # columns that cannot be labels
    misfits: Mapping[str, int] = field(default_factory=dict)  # cells of another type, now null

    @property
    def types(self) -> dict[str, str]:
        """Arrow's types by column, as settings name them."""
        return {column.name: str(column.type) for column in self.columns.schema}

    def joined(self, keys: pa.ChunkedArray, names: Sequence[str]) -> pa.Table:
        """Some of the columns for rows with these keys; null where the file does not have one."""
        known = [normal(key) for key in keys.to_pylist()]
        rows = pc.index_in(pa.array(known, pa.string()), value_set=self.keys)
        return self.columns.select(names).take(rows)

    def of(self, key: str) -> dict[str, Any]:
        """What the file says of one sample, by column."""
        row = self._rows.get(normal(key))
        if row is None:
            return {}
        found = {n: self.columns.column(n)[row].as_py() for n in self.columns.column_names}
        return {name: value for name, value in found.items() if value is not None}

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {key: row for row, key in enumerate(self.keys.to_pylist())}

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_rows"}


def normal(key: str) -> str:
    """A key as both sides say it: without ``./`` before it, and without the extension of an image."""
    key = key.removeprefix("./")
    name, extension = key_and_extension(key)
    return name if extension in IMAGE_EXTENSIONS else key


def read(path: str, on: str, chosen: Sequence[str] = ()) -> LabelTable:
    """The labels of a file.

    Args:
        path: of a CSV (commas, semicolons or tabs) or Parquet file, on this machine or in a store.
        on: the column that holds the keys, or file names.
        chosen: the columns that are labels, a type with ``=`` behind those whose type is not to be found out
            (``age=float``); none: all.

    Raises:
        ConfigError: it cannot be read, has no such column, the same key twice, or none at all.
    """
    shown, data = storage.redact(path), _content(path)
    wanted = dict(_declared(word) for word in chosen)
    is_parquet = data.startswith(PARQUET)
    names = _parquet_names(data, shown) if is_parquet else _csv_names(data, shown)
    _require_columns(names, [on, *wanted], shown)
    labels = [name for name in (wanted or names) if name != on]
    usable = [name for name in labels if _is_usable(name)]
    _require_columns(names, usable, shown)
    if wanted and (odd := [name for name in labels if name not in usable]):
        raise ConfigError(f"the column {odd[0]!r} of {shown} cannot be a label; rename it there")
    if not usable or len(usable) > MAX_COLUMNS:
        raise ConfigError(
            f"{shown} has {len(usable)} columns of labels beside {on}, and 1 to {MAX_COLUMNS} are taken; "
            "choose some with --label-columns"
        )
    try:
        table = _parquet(data, [on, *usable]) if is_parquet else _csv(data, [on, *usable])
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unreadable(shown, error) from None
    decimal = "," if not is_parquet and _delimiter(data) == ";" else "."
    return _labels(table, on, wanted, decimal, shown, data, set(labels) - set(usable))


def _labels(
    table: pa.Table,
    on: str,
    wanted: Mapping[str, str | None],
    decimal: str,
    shown: str,
    data: bytes,
    odd: set[str],
) -> LabelTable:
    """Columns of the file with their types, once each key is known to be there once."""
    keys, table = _keys(table, on, shown)
    columns, misfits, left_out = {}, {}, sorted(odd)
    for name in table.column_names:
        column = cells.plain(table.column(name))
        if column is None and name in wanted:
            raise ConfigError(
                f"the column {name!r} of {shown} is {table.column(name).type}, but labels are numbers, "
                "texts, true and false"
            )
        if column is None:
            left_out.append(name)
            continue
        typed = cells.typed(column, wanted.get(name), decimal)
        columns[LABEL_PREFIX + name] = typed
        if lost := typed.null_count - column.null_count:
            misfits[name] = lost
    sha256 = hashlib.sha256(data).hexdigest()
    return LabelTable(shown, on, keys, pa.table(columns), sha256, tuple(left_out), misfits)


def _declared(word: str) -> tuple[str, str | None]:
    name, is_declared, kind = word.rpartition("=")
    if not is_declared:
        return word, None
    if kind not in LABEL_TYPES:
        raise ConfigError(
            f"--label-columns takes names of columns, with a type where it is to be one ({name}=float; "
            f"{', '.join(LABEL_TYPES)}), not {word!r}"
        )
    return name, LABEL_TYPES[kind]


def _is_usable(name: str) -> bool:
    return bool(COLUMN_KEY.fullmatch(name)) and name not in LABEL_MEMBERS


def _require_columns(names: Sequence[str], wanted: Sequence[str], shown: str) -> None:
    twice = [name for name in wanted if names.count(name) > 1]
    if twice:
        raise ConfigError(f"{shown} has two columns {twice[0]!r}; rename one")
    for name in wanted:
        if name not in names:
            there = ", ".join(map(repr, names[:N_SHOWN])) + (", ..." if names[N_SHOWN:] else "")
            raise ConfigError(f"{shown} has no column {name!r}; it has {there}")


def _keys(table: pa.Table, on: str, shown: str) -> tuple[pa.Array, pa.Table]:
    """The keys as rows of latents have them, and the other columns of the rows that have one."""
    table = table.filter(table.column(on).is_valid())
    keys = [normal(str(key)) for key in table.column(on).to_pylist()]
    seen: dict[str, int] = {}
    for row, key in enumerate(keys):
        if key in seen:
            raise ConfigError(
                f"{shown} has the key {key!r} twice (rows {seen[key] + 1} and {row + 1}), which may differ; "
                "leave one of them out"
            )
        seen[key] = row
    if not keys:
        raise ConfigError(f"{shown} has no key in its column {on!r}")
    return pa.array(keys, pa.string()), table.drop_columns([on])


def _content(path: str) -> bytes:
    shown = storage.redact(path)
    if path.startswith((*HTTP, PIPE)):
        raise ConfigError(f"{shown} is not read for labels; download it, and pass its path")
    files, place = storage.filesystem(path)
    try:
        require_regular(files, place)
        size = files.get_file_info(place).size or 0
        if size > MAX_BYTES:
            raise ConfigError(
                f"{shown} has {size / 2**30:.1f} GiB, and labels are held in memory, up to "
                f"{MAX_BYTES >> 30} GiB; keep only the columns that are needed, or make it a Parquet file"
            )
        with files.open_input_stream(place, compression=None) as stream:
            return stream.read()
    except ConfigError:
        raise
    except FileNotFoundError:
        raise ConfigError(f"there are no labels at {shown}; check the path") from None
    except Exception as error:  # of whatever library the store is reached by
        raise _unreadable(shown, error) from None


def _unreadable(shown: str, error: Exception) -> ConfigError:
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return ConfigError(
        f"the labels in {shown} cannot be read ({first}); pass a CSV or Parquet file"
    )


def _parquet_names(data: bytes, shown: str) -> list[str]:
    try:
        return pq.read_schema(pa.BufferReader(data)).names
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unreadable(shown, error) from None


def _parquet(data: bytes, names: Sequence[str]) -> pa.Table:
    table = pq.read_table(pa.BufferReader(data), columns=list(names)).select(names)
    place = table.column_names[0]
    return table.set_column(0, place, table.column(0).cast(pa.string()))


def _csv_names(data: bytes, shown: str) -> list[str]:
    """The first line of a CSV."""
    try:
        data.decode()
    except UnicodeDecodeError:
        raise ConfigError(
            f"{shown} is no CSV in UTF-8; save it as UTF-8 (of Excel: 'CSV UTF-8'), or as Parquet"
        ) from None
    text = io.StringIO(_beginning(data), newline="")
    names = next(csv.reader(text, delimiter=_delimiter(data)), [])
    if not any(names):
        raise ConfigError(f"{shown} does not begin with the names of its columns")
    return names


def _beginning(data: bytes) -> str:
    """More than a first line needs."""
    return data[: 1 << 20].decode("utf-8-sig", "ignore")


def _delimiter(data: bytes) -> str:
    """What parts the columns: of commas, semicolons and tabs the one that the first line has most of."""
    line = _beginning(data).lstrip().partition("\n")[0]
    outside = "".join(line.split('"')[::2])
    return max(DELIMITERS, key=outside.count)


def _csv(data: bytes, names: Sequence[str]) -> pa.Table:
    return pyarrow.csv.read_csv(
        pa.BufferReader(data),
        parse_options=pyarrow.csv.ParseOptions(delimiter=_delimiter(data), newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(
            include_columns=list(names),
            column_types={name: pa.string() for name in names},
            null_values=cells.MISSING,
            strings_can_be_null=True,
        ),
    )
