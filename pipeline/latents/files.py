"""Which Parquet files a data set has, whether they belong together, and their row groups."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs as pafs

from pipeline import storage
from pipeline.config import LABEL_PREFIX, difference
from pipeline.errors import ConfigError
from pipeline.latents.record import footer, require_distinct
from pipeline.latents.schema import is_nested, numbers_type, value_shape
from pipeline.shards.label_file import LabelTable
from pipeline.storage import urls
from pipeline.storage.filesystems import listed, require_regular

N_WAITING_THREADS = 16  # footers and small columns: in an object store all waiting
N_READ_THREADS = min(4, os.cpu_count() or 1)
KEY = "key"  # the column that labels are joined by
# Entries of a footer that are of one shard.
OF_ONE_FILE = (
    "shard", "input_identity", "photos", "photos_version", "n_samples", "n_by_status", "n_rows"
)  # fmt: skip


@dataclass(frozen=True)
class Group:
    """A row group of a file: what is read at once."""

    path: str
    index: int  # in its file
    n_rows: int


@dataclass(frozen=True)
class LatentFiles:
    """The files of one data set. Nothing is kept open, so that processes and threads may share it."""

    address: str  # as given, fit to be shown
    source: pafs.FileSystem
    groups: list[Group]
    schema: pa.Schema
    footer: dict[str, Any]  # what the records of all files share; {} in files of another origin
    n_by_status: dict[str, int] = field(default_factory=dict)  # of all files; {} likewise
    labels: LabelTable | None = None  # joined to the rows as they are read

    def joined(self, labels: LabelTable) -> LatentFiles:
        """The same files, whose rows have the columns of a label file too.

        Raises:
            ConfigError: rows have no key, or such a column already.
        """
        if KEY not in self.schema.names:
            raise ConfigError(f"{self.address} has no column {KEY!r} to join labels by")
        for column in labels.columns.schema:
            if column.name in self.schema.names:
                raise ConfigError(
                    f"{self.address} has a column {column.name} already; rename "
                    f"{column.name.removeprefix(LABEL_PREFIX)!r} in {labels.address}"
                )
        schema = pa.schema([*self.schema, *labels.columns.schema])
        return replace(self, schema=schema, labels=labels)

    def read(self, group: Group, columns: Sequence[str]) -> pa.Table:
        """Some columns of one row group, in the given order.

        Raises:
            ConfigError: the file can no longer be read.
        """
        added = [] if self.labels is None else [n for n in columns if n in self.labels.types]
        own = [name for name in columns if name not in added]
        if added and KEY not in own:
            own.append(KEY)
        with opened(self.source, group.path, pre_buffer=True) as parquet:
            table = parquet.read_row_group(group.index, columns=own)
        if self.labels is not None and added:
            for name, values in zip(
                added, self.labels.joined(table.column(KEY), added).columns, strict=True
            ):
                table = table.append_column(name, values)
        return table.select(columns).replace_schema_metadata()

    def read_ahead(
        self, groups: Iterable[Group], columns: Sequence[str], n_threads: int = N_READ_THREADS
    ) -> Iterator[pa.Table]:
        """Row groups in the given order, the next ones read by threads meanwhile."""
        waiting: deque[Future[pa.Table]] = deque()
        with ThreadPoolExecutor(n_threads) as pool:
            for group in groups:
                waiting.append(pool.submit(self.read, group, columns))
                if len(waiting) > n_threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()


def open_files(pattern: str) -> LatentFiles:
    """Read the footers of a folder, a file or a glob.

    Raises:
        ConfigError: no Parquet file, one that cannot be read, or files that do not belong together.
    """
    address = storage.redact(pattern)
    source, paths = _matches(pattern)
    if not paths:
        raise ConfigError(f"no Parquet file in {address}; is it the --out of a run?")

    n_by_status = Counter[str]()

    def layout(path: str) -> tuple[pa.Schema, list[Group], dict[str, Any]]:
        name = path.rpartition("/")[2]
        with opened(source, path) as parquet:
            metadata = parquet.metadata
            sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
            groups = [Group(path, i, n) for i, n in enumerate(sizes)]
            columns = metadata.schema.to_arrow_schema().remove_metadata()
            require_distinct(columns, name)
            return columns, groups, footer(metadata, name)

    with ThreadPoolExecutor(N_WAITING_THREADS) as pool:
        layouts = pool.map(layout, paths)
        schema, groups, record = next(layouts)
        n_by_status.update(record.get("n_by_status", {}))
        for path, (other_schema, more, other) in zip(paths[1:], layouts, strict=True):
            _require_same(record, other, schema, other_schema, (paths[0], path), address)
            groups += more
            n_by_status.update(other.get("n_by_status", {}))
    shared = {name: value for name, value in record.items() if name not in OF_ONE_FILE}
    return LatentFiles(address, source, groups, schema, shared, dict(n_by_status))


@contextmanager
def opened(
    source: pafs.FileSystem, path: str, pre_buffer: bool = False
) -> Iterator[pq.ParquetFile]:
    """A Parquet file, to be read inside the block.

    Raises:
        ConfigError: it is damaged, or gone.
    """
    try:
        require_regular(source, path)
        file = source.open_input_file(path)
        parquet = pq.ParquetFile(file, pre_buffer=pre_buffer)
    except Exception as error:  # of whatever library the store is reached by
        raise _unreadable(path, error) from None
    with file:
        try:
            yield parquet
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise _unreadable(path, error) from None


def _unreadable(path: str, error: Exception) -> ConfigError:
    name, why = path.rpartition("/")[2], urls.redacted_message(error, path)
    return ConfigError(
        f"{name} cannot be read ({why}); `restyle verify` on its folder lists what is damaged"
    )


def require_same_run(first: Mapping[str, Any], record: Mapping[str, Any], address: str) -> None:
    """Refuse a file whose footer belongs to a different run than the first file's.

    Raises:
        ConfigError: it does; says how the settings differ.
    """
    if not first or record.get("fingerprint") == first.get("fingerprint"):
        return
    differs = difference(first.get("identity", {}), record.get("identity", {}))
    raise ConfigError(
        f"{storage.redact(address)} belongs to a different run than the other files here "
        f"({differs or 'fingerprint'}); move it elsewhere"
    )


def _matches(pattern: str) -> tuple[pafs.FileSystem, list[str]]:
    """Paths of the Parquet files that a folder, file or glob names, sorted; no folder below is opened
    unless the glob says so."""
    # A store's options (endpoint, region) follow a question mark, a glob character too.
    address, mark, options = pattern.partition("?")
    address, query = (address, mark + options) if "=" in options else (pattern, "")
    name = "*.parquet"
    if glob.has_magic(address) and not os.path.exists(address):
        start = re.split(r"[*?\[]", address)[0].rpartition("/")[0]
        name = address[len(start) :].lstrip("/")
        # Of "*.parquet" alone nothing is left before the star; of "/*.parquet", the root.
        address = start or ("/" if address.startswith("/") else ".")
    elif address.endswith(".parquet") and not os.path.isdir(address):
        address, _, name = address.rpartition("/")
        address, name = address or ".", glob.escape(name)
    source, folder = storage.filesystem(address + query)
    is_deep = "/" in name
    selector = pafs.FileSelector(folder, recursive=is_deep, allow_not_found=True)
    infos = listed(source, selector, pattern)
    by_name = {info.path[len(folder) :].lstrip("/"): info for info in infos}
    return source, sorted(
        info.path
        for below, info in by_name.items()
        if info.type == pafs.FileType.File
        and below.endswith(".parquet")
        and below.count("/") == name.count("/")
        and fnmatch.fnmatchcase(below, name)
    )


def _require_same(
    first: dict[str, Any],
    other: dict[str, Any],
    schema: pa.Schema,
    other_schema: pa.Schema,
    paths: tuple[str, str],
    address: str,
) -> None:
    names = " and ".join(path.rpartition("/")[2] for path in paths)
    if bool(first) != bool(other):
        differs = f"{paths[not first].rpartition('/')[2]} alone was written by restyle"
    elif first.get("fingerprint") != other.get("fingerprint"):
        differs = difference(first.get("identity", {}), other.get("identity", {}))
        differs = (
            differs or f"fingerprint: {first.get('fingerprint')!r}, {other.get('fingerprint')!r}"
        )
    else:
        differs = "; ".join(
            f"{name}: {_type(schema, name)} there, {_type(other_schema, name)} now"
            for name in dict.fromkeys([*schema.names, *other_schema.names])
            if _type(schema, name) != _type(other_schema, name)
        )
    if not differs:
        return
    raise ConfigError(
        f"{address} mixes runs with different settings ({names} differ: {differs}); keep one run per folder"
    )


def _type(schema: pa.Schema, name: str) -> str:
    """Type of a column for people: ``float[18, 512]`` for nested lists."""
    if name not in schema.names:
        return "none"
    column = schema.field(name)
    if not is_nested(column.type):
        return str(column.type)
    shape = value_shape(column)
    return str(column.type) if shape is None else f"{numbers_type(column.type)}{list(shape)}"
