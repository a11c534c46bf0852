"""Is it all there, and is it right? Answers from the files of a run alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config import fingerprint
from pipeline.engine import progress
from pipeline.engine.progress import Progress
from pipeline.engine.run_folder import RunFolder
from pipeline.errors import ConfigError
from pipeline.latents import footer
from pipeline.latents.schema import dense
from pipeline.storage.filesystems import require_regular
from pipeline.storage.urls import redacted_message

BATCH_ROWS = 1024
FIXED_LISTS_READ = 26  # the pyarrow that reads nested fixed-size lists with null rows
N_FOOTER_THREADS = 16
# What tells the rows of a file apart; the last two in edits alone.
ROW_KEY = ("sample_index", "face", "direction", "strength")


@dataclass
class RunStatus:
    """How far a run is."""

    n_asked: int = 0
    n_done: int = 0
    n_samples: int = 0
    n_by_status: Counter[str] = field(default_factory=Counter)
    n_worse: int = 0  # rows that ended clearly above the error of their best step
    missing: list[str] = field(default_factory=list)  # URLs of unfinished shards
    run: Progress | None = None  # the last heartbeat; None where no run left one

    @property
    def is_running(self) -> bool:
        return self.run is not None and self.run.is_alive()

    @property
    def n_rows(self) -> int:
        return sum(self.n_by_status.values())


@dataclass
class FileAudit:
    """What :func:`verify` found in one file."""

    name: str
    n_rows: int = 0
    n_ok: int = 0
    n_worse: int = 0
    problems: list[str] = field(default_factory=list)


def worse(n: int, n_ok: int) -> str:
    """What is said of rows that got worse, in a sentence; "" where there are none."""
    if not n:
        return ""
    rows = f"{n:,} of {n_ok:,} inverted rows ended" if n_ok != 1 else "the inverted row ended"
    return (
        f"{rows} more than 5 % above the mse of their best step; --latents best, into another --out, keeps "
        "that step instead of the last"
    )


def files(out: str) -> list[str]:
    """Names of a run's Parquet files.

    Raises:
        ConfigError: the folder holds no run.
    """
    folder = RunFolder(out)
    names = folder.committed()
    if not names and folder.shards() is None:
        raise ConfigError(f"{folder} contains no run; pass the --out of `restyle invert`")
    return names


def status(out: str) -> RunStatus:
    """Shards asked for and done, rows by status, what the last run says; reads footers only.

    Raises:
        ConfigError: the folder holds no run, or a file that is damaged.
    """
    names = files(out)
    result = RunStatus(n_done=len(names), missing=unfinished(out, names), run=progress.read(out))
    result.n_asked = len(names) + len(result.missing)
    for record in _footers(out, names):
        result.n_samples += record.get("n_samples", 0)
        result.n_by_status.update(record.get("n_by_status", {}))
        result.n_worse += record.get("n_worse", 0)
    return result


def with_rows(out: str, names: Sequence[str], statuses: AbstractSet[str]) -> list[str]:
    """Those of the files that hold rows of these statuses.

    Raises:
        ConfigError: a file is damaged.
    """
    records = zip(names, _footers(out, names), strict=True)
    return [name for name, record in records if statuses & record.get("n_by_status", {}).keys()]


def _footers(out: str, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    folder = RunFolder(out)

    def read(name: str) -> dict[str, Any]:
        with folder.opened(name) as parquet:
            return footer(parquet.metadata, name)

    with ThreadPoolExecutor(N_FOOTER_THREADS) as pool:  # in an object store it is all waiting
        yield from pool.map(read, names)


def unfinished(out: str, names: Sequence[str]) -> list[str]:
    """URLs of the shards that were asked for and have no file."""
    done = set(names)
    return [item["url"] for item in RunFolder(out).shards() or [] if item["output"] not in done]


def missing(out: str) -> list[str]:
    """A problem for each shard that was asked for and has no file."""
    return [f"missing: {url} has no file" for url in unfinished(out, files(out))]


def verify(out: str, names: Sequence[str]) -> Iterator[FileAudit]:
    """Read every row of every file; one audit a file, its problems in words."""
    folder = RunFolder(out)
    expected = fingerprint(folder.settings() or {})
    shards: dict[str, str] = {}
    for name in names:
        audit, is_too_old = FileAudit(name), False
        try:
            require_regular(folder.files, folder.at(name))
            with folder.files.open_input_file(folder.at(name)) as file:
                parquet = pq.ParquetFile(file)
                is_too_old = _is_too_old_a_reader(parquet.schema_arrow)
                _check_file(audit, parquet, expected, shards)
        except Exception as error:
            why = redacted_message(error, out)
            advice = (
                f"pyarrow {pa.__version__} does not read failed rows of folders before protocol 3; pip "
                "install 'pyarrow>=26' and verify again"
                if is_too_old
                else "delete it and run again"
            )
            audit.problems.append(f"{name}: cannot be read ({why}); {advice}")
        yield audit


def _is_too_old_a_reader(columns: pa.Schema) -> bool:
    """Whether this pyarrow may fail on a whole file: nested lists of fixed sizes with null rows."""
    nested = (c.type for c in columns if pa.types.is_fixed_size_list(c.type))
    is_nested = any(pa.types.is_fixed_size_list(type_.value_type) for type_ in nested)
    return is_nested and int(pa.__version__.split(".")[0]) < FIXED_LISTS_READ


def _check_file(
    audit: FileAudit, parquet: pq.ParquetFile, expected: str, shards: dict[str, str]
) -> None:
    record, say = footer(parquet.metadata, audit.name), audit.problems.append
    audit.n_rows = parquet.metadata.num_rows
    if not record:
        say(f"{audit.name}: not written by restyle (no record in its footer)")
        return
    if record["fingerprint"] != expected:
        say(
            f"{audit.name}: different settings from the folder's ({record['fingerprint']}, {expected})"
        )
    if record["n_rows"] != audit.n_rows:
        say(f"{audit.name}: {audit.n_rows} rows, but its footer says {record['n_rows']}")
    if record["shard"] in shards:
        say(f"{audit.name}: shard {record['shard']} is also in {shards[record['shard']]}")
    shards[record["shard"]] = audit.name
    seen: set[tuple[Any, ...]] = set()
    counts: Counter[str] = Counter()
    place = [name for name in ROW_KEY if name in parquet.schema_arrow.names]
    for batch in parquet.iter_batches(BATCH_ROWS):  # every column: damage shows in any
        _check_rows(audit, batch, place, seen, counts)
    indices = {index for index, *_ in seen}
    is_whole = indices == set(range(len(indices))) or "edit_where" in record.get("identity", {})
    if len(indices) != record["n_samples"] or not is_whole:
        say(f"{audit.name}: rows of {len(indices)} samples, {record['n_samples']} were read")
    audit.n_ok, audit.n_worse = counts["ok"], record.get("n_worse", 0)
    if dict(counts) != record["n_by_status"]:
        say(f"{audit.name}: rows by status {dict(counts)}, its footer says {record['n_by_status']}")


def _check_rows(
    audit: FileAudit,
    batch: pa.RecordBatch,
    names: Sequence[str],
    seen: set[tuple[Any, ...]],
    counts: Counter[str],
) -> None:
    indices = batch.column("sample_index").to_pylist()
    for place in zip(*(batch.column(name).to_pylist() for name in names), strict=True):
        if place in seen:
            which = f"sample {place[0]}, " + ", ".join(map(_spoken, names[1:], place[1:]))
            audit.problems.append(f"{audit.name}: {which} appears twice")
        seen.add(place)
    statuses = batch.column("status").to_pylist()
    counts.update(statuses)
    latent = batch.column("latent")
    for index, word, valid in zip(indices, statuses, latent.is_valid().to_pylist(), strict=True):
        if (word == "ok") != valid:
            which = "without a latent" if word == "ok" else "with a latent"
            audit.problems.append(f"{audit.name}: sample {index} is {word} {which}")
    for column in ("latent", "latents_by_step"):
        if column in batch.schema.names and not _is_finite(batch.column(column)):
            audit.problems.append(f"{audit.name}: column {column} holds NaN or infinity")


def _is_finite(column: pa.Array) -> bool:
    return bool(np.isfinite(dense(column.drop_null())).all())


def _spoken(name: str, value: Any) -> str:
    return f"{name} {value}"
