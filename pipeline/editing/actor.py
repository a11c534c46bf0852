"""EditorActor: one Parquet file of latents -> one of their edits. A second kind of worker for the engine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from pipeline import images, storage
from pipeline.cluster import worker_name
from pipeline.config import Precision, fingerprint
from pipeline.editing.painter import Painter, n_fitting
from pipeline.editing.rows import Edits
from pipeline.errors import ConfigError, OutOfMemory, ShardError
from pipeline.latents import footer
from pipeline.latents.where import Where
from pipeline.records import ShardReport, ShardTask
from pipeline.stopwatch import Stopwatch
from pipeline.storage import public
from pipeline.writer import ROW_GROUP_IMAGE_BYTES, ROW_GROUP_ROWS, ShardWriter


@dataclass(frozen=True)
class EditorConfig:
    """What an editor is told."""

    out: str  # folder or object-store prefix
    edits: Edits  # what becomes of each row
    columns: pa.Schema  # of the source
    where: str | None  # only rows that this holds for
    source_fingerprint: str  # that each source file must have
    identity: Mapping[str, Any]  # of the edited folder
    save_images: bool  # draw the edits into the column `reconstruction`
    model: str | None  # where the checkpoints are; None: where the source has them
    generator: str | None
    precision: Precision  # of the synthesis
    batch_size: int  # pictures drawn together
    n_in_flight: int = 0  # both are set by the crew; an editor has no other workers to feed it
    n_threads: int = 0  # of torch on the CPU

    @property
    def actor_class(self) -> type[EditorActor]:
        return EditorActor


class EditorActor:
    """One file at a time, a bounded number of rows in memory."""

    def __init__(self, config: EditorConfig) -> None:
        self._config = config
        self._n_rows = 0
        self._painter: Painter | None = None

    def load(self) -> str:
        """Nothing yet: the first source file names the generator. Returns the worker's name."""
        torch.set_num_threads(self._config.n_threads)
        return worker_name()

    def n_rows(self) -> int:
        """Rows of the current file so far, for the progress bar."""
        return self._n_rows

    def process(self, task: ShardTask, *_: Any) -> ShardReport:
        """Edit one file and commit the result.

        Raises:
            ShardError: it cannot be read to its end, is of another run, or the result cannot be written.
            OutOfMemory: too many pictures at once.
            CheckpointError: no generator, or another one than the latents are of.
        """
        try:
            return self._process(task)
        except OutOfMemory:
            raise
        except (ConfigError, pa.ArrowException, OSError) as error:
            raise ShardError(f"{public(task.url)}: {error}") from None

    def _process(self, task: ShardTask) -> ShardReport:
        self._n_rows = 0
        clock, counts, samples = Stopwatch(), Counter[str](), set[int]()
        files, path = storage.filesystem(task.url)
        with files.open_input_file(path) as file:
            source = pq.ParquetFile(file)
            record = footer(source.metadata)
            self._require_same_run(record, source.schema_arrow)
            columns = self._config.edits.columns(source.schema_arrow, self._config.save_images)
            shard = record["shard"]
            writer = ShardWriter(self._config.out, task.output, shard, columns)
            try:
                for batch in self._batches(source, record, columns, clock):
                    with clock("write"):
                        writer.add_batch(batch)
                    counts.update(batch.column("status").to_pylist())
                    samples.update(batch.column("sample_index").to_pylist())
                    self._n_rows = writer.n_rows
                if storage.identity(task.url) != task.identity:
                    raise ShardError("it has changed since the run began; run again")
                with clock("write"):
                    writer.commit(self._footer(record, task, len(samples), counts))
            except BaseException:
                writer.abandon()
                raise
        return ShardReport(task, len(samples), dict(counts), dict(clock.seconds), worker_name())

    def _require_same_run(self, record: Mapping[str, Any], columns: pa.Schema) -> None:
        if record.get("fingerprint") != self._config.source_fingerprint:
            raise ConfigError("it is of another run than the rest of its folder; move it away")
        if not columns.equals(self._config.columns):
            raise ConfigError("its columns are not those of the rest of its folder")

    def _batches(
        self,
        source: pq.ParquetFile,
        record: Mapping[str, Any],
        columns: pa.Schema,
        clock: Stopwatch,
    ) -> Iterator[pa.RecordBatch]:
        """Edited rows, about a row group at a time; every row of the source is read."""
        painter = self._drawing(record) if self._config.save_images else None
        n_rows = ROW_GROUP_ROWS
        if painter is not None:
            n_rows = min(n_rows, n_fitting(int(np.prod(painter.size)), ROW_GROUP_IMAGE_BYTES))
        chosen = _Chosen(self._config, source.schema_arrow, columns)
        batches = source.iter_batches(
            max(1, n_rows // self._config.edits.n_each), columns=chosen.columns
        )
        n_read = 0
        while True:
            with clock("read"):
                batch = next(batches, None)
            if batch is None:
                break
            n_read += len(batch)
            with clock("edit"):
                edited, latents = self._config.edits.apply(chosen.rows(batch))
            pictures: Sequence[bytes | None] | None = None
            if painter is not None:
                with clock("draw"):
                    pictures = _drawn(painter, latents, edited)
            yield from self._config.edits.batches(edited, pictures, columns)
        if n_read != source.metadata.num_rows:
            raise AssertionError(f"{n_read} of {source.metadata.num_rows} rows were read")

    def _drawing(self, record: Mapping[str, Any]) -> Painter:
        if self._painter is None:
            c = self._config
            self._painter = Painter(record, c.model, c.generator, c.precision, c.batch_size)
        return self._painter

    def _footer(
        self, record: Mapping[str, Any], task: ShardTask, n_samples: int, counts: Counter[str]
    ) -> dict[str, Any]:
        """The source's own, for its model and latent average are those of the edits too."""
        return {
            **record,
            "fingerprint": fingerprint(self._config.identity),
            "identity": dict(self._config.identity),
            "source": public(task.url),
            "input_identity": task.identity,
            "n_samples": n_samples,
            "n_by_status": dict(sorted(counts.items())),
        }


class _Chosen:
    """The rows and columns of a source that are edited."""

    def __init__(self, config: EditorConfig, source: pa.Schema, columns: pa.Schema) -> None:
        self._kept = config.edits.needed(source, columns)
        self._where = None if config.where is None else Where(config.where, source)
        asked = [] if self._where is None else self._where.columns
        self.columns = list(dict.fromkeys([*self._kept, *asked]))  # to be read

    def rows(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        if self._where is not None:
            batch = batch.filter(pa.array(self._where.mask(pa.Table.from_batches([batch]))))
        return batch.select(self._kept)


def _drawn(painter: Painter, latents: np.ndarray, edited: pa.Table) -> list[bytes | None]:
    """A JPEG of each row that has a latent."""
    drawn = iter(painter.draw(latents))
    is_valid = edited.column("latent").is_valid().to_pylist()
    return [images.encode_jpeg(next(drawn)) if valid else None for valid in is_valid]
