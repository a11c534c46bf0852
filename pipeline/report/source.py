"""The Parquet files of one run, read by columns: what a report needs, and no more of it at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.config import n_entries
from pipeline.engine import audit
from pipeline.engine.run_folder import RunFolder
from pipeline.errors import ConfigError
from pipeline.latents import footer
from pipeline.latents.files import require_same_run
from pipeline.latents.record import SHAPES, require_columns
from pipeline.latents.schema import dense, is_nested
from pipeline.report.metrics import metric
from pipeline.shards.photos import Recorded
from pipeline.storage.urls import name_of

# Rows decoded at once when single rows are picked: with 18 x 512 latents of five steps, 12 MB.
BATCH_ROWS = 64
# What a file must have: columns, and entries of its footer and of the settings there.
COLUMNS = (
    "key", "shard", "sample_index", "face", "n_faces", "status", "error", "latent", "width", "height"
)  # fmt: skip
NEEDED = (
    "fingerprint", "model", "n_samples", "n_by_status", "latent_avg_shape", "metric_protocol", "versions"
)  # fmt: skip
SETTINGS = (
    "steps", "metrics", "latents", "latent_dtype", "align", "faces", "precision", "encoder_sha256",
    "generator_sha256",
)  # fmt: skip


@dataclass(frozen=True)
class File:
    """One Parquet file: the rows of one shard."""

    name: str
    shard: str  # URL
    version: str  # of the shard's content; "" where its source does not tell
    n_rows: int


@dataclass
class Run:
    """A run as its footers tell it. Its rows are numbered through, file by file."""

    latents: str  # folder or prefix, as given
    files: list[File] = field(default_factory=list)
    footer: dict[str, Any] = field(default_factory=dict)  # of the first file: what all share
    n_samples: int = 0
    n_by_status: Counter[str] = field(default_factory=Counter)
    n_worse: int = 0  # rows that ended clearly above the error of their best step
    n_unfinished: int = 0  # shards that were asked for and have no file

    def opened(self, name: str) -> AbstractContextManager[pq.ParquetFile]:
        """One of its files, to be read inside the block.

        Raises:
            ConfigError: it is damaged.
        """
        return RunFolder(self.latents).opened(name)

    @property
    def settings(self) -> dict[str, Any]:
        """Settings and checkpoint hashes."""
        return self.footer["identity"]

    @property
    def n_steps(self) -> int:
        """Of a row that was kept to the end; a refined answer counts as one more."""
        return n_entries(self.settings)

    def recorded(self, shard: str) -> Recorded:
        """What the file of a shard says of it, so that its photos are found again."""
        name = next((file.name for file in self.files if file.shard == shard), None)
        if name is None:
            return Recorded()
        with self.opened(name) as file:
            return Recorded.of(footer(file.metadata, name))

    @property
    def n_rows(self) -> int:
        return sum(file.n_rows for file in self.files)

    @property
    def n_ok(self) -> int:
        return self.n_by_status["ok"]

    @property
    def n_failed(self) -> int:
        return self.n_rows - self.n_ok

    @property
    def directions(self) -> list[str]:
        """Names of the directions that its rows are edits along; none where they are inversions."""
        return [text.partition("=")[0] for text in self.settings.get("edit_directions", [])]

    @property
    def strengths(self) -> list[float]:
        """How far along each direction."""
        return self.settings.get("edit_strengths", [])

    @property
    def n_edits(self) -> int:
        """Rows for each row of the source, which follow one another: strengths, then directions."""
        return len(self.directions) * len(self.strengths)

    @property
    def is_demo(self) -> bool:
        return self.footer["model"] == "demo"


def open_run(latents: str) -> Run:
    """Read the footers of a folder.

    Raises:
        ConfigError: no Parquet files, files of another origin, or of several runs.
    """
    where = storage.redact(latents)
    names = RunFolder(latents).committed()
    if not names:
        raise ConfigError(
            f"{where} holds no Parquet file; pass the --out folder of a finished `restyle invert`"
        )
    run = Run(latents)
    for name in names:
        path = f"{where.rstrip('/')}/{name}"
        with run.opened(name) as file:
            record, n_rows = _record(file, path), file.metadata.num_rows
        require_same_run(run.footer, record, path)
        run.footer = run.footer or record
        shard, version = record.get("shard", ""), record.get("input_identity", "")
        run.files.append(File(name, shard, version, n_rows))
        run.n_samples += record["n_samples"]
        run.n_by_status.update(record["n_by_status"])
        run.n_worse += record.get("n_worse", 0)
    for part in run.files if run.n_edits else ():
        if part.n_rows % run.n_edits:
            raise ConfigError(
                f"{part.name} has {part.n_rows} rows, which are not {run.n_edits} edits of each of its "
                "images; get the file again, or move it out of the folder"
            )
    run.n_unfinished = len(audit.unfinished(latents, names))
    return run


def _record(file: pq.ParquetFile, path: str) -> dict[str, Any]:
    """The footer of a file that has all that a report reads."""
    record = footer(file.metadata, path)
    try:
        settings = record["identity"]
        columns = {*COLUMNS, *(metric(name).name for name in settings["metrics"])}
        missing = [name for name in NEEDED if name not in record]
        missing += [name for name in SETTINGS if name not in settings]
        missing += sorted(columns - set(file.schema_arrow.names))
    except KeyError as error:
        missing = [str(error)]
    if missing:
        raise ConfigError(
            f"{path} was not written by `restyle invert`, or by a different version ({missing[0]}); move it "
            "out of the folder"
        )
    require_columns(file.schema_arrow, COLUMNS, path)
    return record


def values(run: Run, name: str) -> np.ndarray:
    """One metric of every row, [n_rows, n_steps] float32, NaN where a step was not measured.

    Behind the last step of a row (``--latents best``, ``--steps auto``) stands the value at that step.

    Raises:
        ConfigError: the column does not fit the run's settings.
    """
    n_steps = run.n_steps
    may_be_shorter = run.settings["latents"] == "best" or "auto" in run.settings
    measured = np.full((run.n_rows, n_steps), np.nan, np.float32)
    start = 0
    for part in run.files:
        with run.opened(part.name) as file:
            for batch in file.iter_batches(columns=[name]):
                column = batch.column(0)
                places = start + np.flatnonzero(np.asarray(column.is_valid()))
                rows = column.drop_null()
                lengths = rows.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64)
                if not _fit(lengths, n_steps, may_be_shorter):
                    raise ConfigError(
                        f"{part.name}: {name} does not hold {n_steps} values per row; the file is "
                        "damaged, so delete it and run the same `restyle invert` again"
                    )
                flat = rows.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
                ends = np.cumsum(lengths)
                steps = np.minimum(np.arange(n_steps), lengths[:, None] - 1)
                measured[places] = flat[(ends - lengths)[:, None] + steps]
                start += len(column)
    if name == "identity" and run.settings["identity_steps"] == "last":
        measured[:, :-1] = np.nan  # of each row the one value
    return measured


def _fit(lengths: np.ndarray, n_steps: int, may_be_shorter: bool) -> bool:
    least = 1 if may_be_shorter else n_steps
    return bool(((lengths >= least) & (lengths <= n_steps)).all())


def statuses(run: Run) -> np.ndarray:
    """The status of every row, [n_rows] of str."""
    parts = [np.empty(0, "U1")]
    for part in run.files:
        with run.opened(part.name) as file:
            column = file.read(columns=["status"]).column(0)
            parts.append(np.asarray(column.to_pylist(), dtype="U32"))
    return np.concatenate(parts)


def rows(run: Run, numbers: Sequence[int], without: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Rows by their numbers, in that order, as plain dictionaries; latents as arrays.

    Args:
        without: columns that are not wanted.
    """
    by_number: dict[int, dict[str, Any]] = {}
    start = 0
    for part in run.files:
        wanted = sorted({n - start for n in numbers if start <= n < start + part.n_rows})
        if wanted:
            with run.opened(part.name) as file:
                columns = [c for c in file.schema_arrow.names if c not in (*without, "landmarks")]
                for index, row in _picked(file, wanted, columns):
                    by_number[start + index] = row
        start += part.n_rows
    return [by_number[number] for number in numbers]


def checkpoint_name(path: str | None) -> str:
    """The last part of a checkpoint's path or address, as a footer has it; "" for none."""
    return PurePath((path or "").partition("#")[0]).name


def place(row: Mapping[str, Any]) -> str:
    """Where the image of a row is from, for people."""
    text = f"{name_of(row['shard'])}, sample {row['sample_index']}"
    n, face = row["n_faces"], row["face"]
    return f"{text}, face {face + 1} of {n}" if n > 1 and face >= 0 else text


def _picked(
    file: pq.ParquetFile, wanted: Sequence[int], columns: Sequence[str]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows by index. Row groups without any are not read, and of the others little at a time."""
    start = 0
    numbers = list(wanted)
    for group in range(file.num_row_groups):
        end = start + file.metadata.row_group(group).num_rows
        if numbers and numbers[0] < end:
            for batch in file.iter_batches(BATCH_ROWS, row_groups=[group], columns=columns):
                while numbers and numbers[0] < start + len(batch):
                    index = numbers.pop(0)
                    yield index, _plain(batch.slice(index - start, 1))
                start += len(batch)
        start = end


def _plain(row: pa.RecordBatch) -> dict[str, Any]:
    return {
        name: _array(column, SHAPES.get(name)) if is_nested(column.type) else column[0].as_py()
        for name, column in zip(row.schema.names, row.columns, strict=True)
    }


def _array(column: pa.Array, shape: tuple[int, ...] | None) -> np.ndarray | None:
    """The single value of a column of nested lists."""
    return None if column.null_count else dense(column, shape)[0].astype(np.float32)
