"""The Parquet files of one run, read by columns: what a report needs, and no more of it at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import audit, plan, storage
from pipeline.config import ConfigError, difference
from pipeline.latents import footer
from pipeline.privacy import reason
from pipeline.schema import dense

# Rows decoded at once when single rows are picked: with 18 x 512 latents of five steps, 12 MB.
BATCH_ROWS = 64


@dataclass
class Run:
    """A run as its footers tell it."""

    latents: str  # folder or prefix, as given
    names: list[str]  # its Parquet files
    footer: dict[str, Any]  # of the first file; what all files share
    n_rows: int = 0
    n_samples: int = 0
    n_by_status: Counter[str] = field(default_factory=Counter)
    n_unfinished: int = 0  # shards that were asked for and have no file

    @property
    def identity(self) -> dict[str, Any]:
        """Settings and checkpoint hashes."""
        return self.footer["identity"]

    @property
    def n_ok(self) -> int:
        return self.n_by_status["ok"]

    @property
    def n_failed(self) -> int:
        return self.n_rows - self.n_ok

    @property
    def is_demo(self) -> bool:
        return self.footer["model"] == "demo"


@dataclass(frozen=True)
class Place:
    """Where a row lies."""

    name: str  # of the file
    index: int  # of the row in it


def open_run(latents: str) -> Run:
    """Read the footers of a folder.

    Raises:
        ConfigError: no Parquet files, files of another origin, or of several runs.
    """
    where = storage.public(latents)
    names = plan.committed(latents)
    if not names:
        raise ConfigError(
            f"{where} holds no Parquet file; pass the --out folder of a finished `restyle invert`"
        )
    run = Run(latents, names, {})
    for name in names:
        with _opened(latents, name) as file:
            record = footer(file.metadata)
            _require_ours(record, run.footer, f"{where.rstrip('/')}/{name}")
            run.footer = run.footer or record
            run.n_rows += file.metadata.num_rows
            run.n_samples += record["n_samples"]
            run.n_by_status.update(record["n_by_status"])
    run.n_unfinished = len(audit.unfinished(latents, names))
    return run


def _require_ours(record: dict[str, Any], first: dict[str, Any], path: str) -> None:
    needed = ("identity", "fingerprint", "model", "n_samples", "n_by_status")
    if any(name not in record for name in needed):
        raise ConfigError(f"{path} was not written by `restyle invert`; move it out of the folder")
    if first and record["fingerprint"] != first["fingerprint"]:
        differs = difference(first["identity"], record["identity"])
        raise ConfigError(f"{path} is of another run ({differs}); keep one run in a folder")


def _opened(latents: str, name: str) -> pq.ParquetFile:
    files, folder = storage.filesystem(latents)
    try:
        return pq.ParquetFile(f"{folder}/{name}", filesystem=files)
    except Exception as error:  # of whatever library the store is reached by
        why = reason(error, latents)
        raise ConfigError(
            f"{storage.public(latents).rstrip('/')}/{name} cannot be read ({why}); delete it and "
            "run the same `restyle invert` again"
        ) from None


def values(run: Run, name: str, n_steps: int) -> np.ndarray:
    """One metric of all rows that have it, [N, n_steps] float32, NaN where a step was not measured.

    Raises:
        ConfigError: the column does not fit the run's settings.
    """
    parts = [np.empty((0, n_steps), np.float32)]
    for file_name in run.names:
        with _opened(run.latents, file_name) as file:
            for batch in file.iter_batches(columns=[name]):
                column = batch.column(0).drop_null()
                flat = column.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
                if len(flat) != len(column) * n_steps:
                    raise ConfigError(
                        f"{file_name}: {name} does not hold {n_steps} values a row; the file is "
                        "damaged, so delete it and run the same `restyle invert` again"
                    )
                parts.append(flat.reshape(-1, n_steps))
    return np.concatenate(parts)


def choose(run: Run, limit: int) -> tuple[list[Place], list[Place]]:
    """Rows to show: of those that came out and of those that failed, at most ``limit`` each.

    Spread evenly over the data set, in stored order.
    """
    n_seen = {True: 0, False: 0}
    wanted = {True: _spread(run.n_ok, limit), False: _spread(run.n_failed, limit)}
    chosen: dict[bool, list[Place]] = {True: [], False: []}
    for name in run.names:
        start = 0
        with _opened(run.latents, name) as file:
            for batch in file.iter_batches(columns=["status"]):
                is_ok = np.asarray(batch.column(0)) == "ok"
                for kind in (True, False):
                    found = np.flatnonzero(is_ok == kind)
                    ranks = n_seen[kind] + np.arange(len(found))
                    picked = found[np.isin(ranks, wanted[kind])]
                    chosen[kind] += [Place(name, start + int(i)) for i in picked]
                    n_seen[kind] += len(found)
                start += len(is_ok)
    return chosen[True], chosen[False]


def _spread(n: int, limit: int) -> np.ndarray:
    """At most ``limit`` of ``n`` ranks, evenly spaced."""
    n_chosen = min(n, limit)
    return (np.arange(n_chosen) * n // max(1, n_chosen)).astype(int)


def rows(run: Run, places: Sequence[Place], without: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The rows at some places, in their order, as plain dictionaries; latents as arrays.

    Args:
        without: columns that are not wanted.
    """
    found: dict[Place, dict[str, Any]] = {}
    for name in dict.fromkeys(place.name for place in places):
        wanted = sorted(place.index for place in places if place.name == name)
        with _opened(run.latents, name) as file:
            columns = [c for c in file.schema_arrow.names if c not in (*without, "landmarks")]
            for index, row in _picked(file, wanted, columns):
                found[Place(name, index)] = row
    return [found[place] for place in places]


def _picked(
    file: pq.ParquetFile, wanted: Sequence[int], columns: Sequence[str]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows by index. Row groups without any are not read, and of the others little at a time."""
    start = 0
    left = list(wanted)
    for group in range(file.num_row_groups):
        end = start + file.metadata.row_group(group).num_rows
        if left and left[0] < end:
            for batch in file.iter_batches(BATCH_ROWS, row_groups=[group], columns=columns):
                while left and left[0] < start + len(batch):
                    index = left.pop(0)
                    yield index, _plain(batch.slice(index - start, 1))
                start += len(batch)
        start = end


def _plain(row: pa.RecordBatch) -> dict[str, Any]:
    return {
        name: _array(column) if pa.types.is_fixed_size_list(column.type) else column[0].as_py()
        for name, column in zip(row.schema.names, row.columns, strict=True)
    }


def _array(column: pa.FixedSizeListArray) -> np.ndarray | None:
    """The single value of a column of nested fixed-size lists."""
    return None if column.null_count else dense(column)[0].astype(np.float32)
