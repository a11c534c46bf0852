"""EditorActor: turns a Parquet file of latents into one of their edits. The second kind of worker."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.editing import pivots
from pipeline.editing.pivots import Pivots
from pipeline.editing.rows import Edits, as_dicts
from pipeline.editing.tuned import COLUMNS, FilePivots
from pipeline.engine.host import Host
from pipeline.engine.quarantine import CrashRecorder
from pipeline.engine.stopwatch import Stopwatch
from pipeline.engine.worker import Worker, WorkerConfig
from pipeline.errors import ConfigError, OutOfMemory, ShardError
from pipeline.faces import images
from pipeline.latents import footer
from pipeline.latents.record import require_present
from pipeline.latents.where import RowFilter
from pipeline.latents.writer import ROW_GROUP_IMAGE_BYTES, ROW_GROUP_ROWS
from pipeline.models import DrawConfig, LatentRenderer
from pipeline.records import Task
from pipeline.storage import redact
from pipeline.storage.filesystems import require_regular

ROWS_TUNED = 4  # rows that are read together where the generator is tuned for each
RECORDED = ("fingerprint", "identity", "shard", "n_samples")  # in the footer of a source


@dataclass(frozen=True, kw_only=True)
class EditorConfig(WorkerConfig):
    """What an editor is given."""

    edits: Edits  # what becomes of each row
    columns: pa.Schema  # of the source
    where: str | None  # only rows that this holds for
    source_fingerprint: str  # that each source file must have
    save_images: bool  # draw the edits into the column `reconstruction`
    drawing: DrawConfig  # how they are drawn
    pivots: Pivots | None = None  # by generators tuned for the rows; None: by the run's own

    @property
    def worker_class(self) -> type[EditorActor]:
        return EditorActor


class EditorActor(Worker):
    """A bounded number of rows in memory; the first source file names the generator."""

    def __init__(self, config: EditorConfig, host: Host | None = None) -> None:
        super().__init__(config, host)
        self.config = config
        self._renderer: LatentRenderer | None = None

    def load_models(self) -> None:
        """Nothing yet."""

    def renderer(self, record: Mapping[str, Any]) -> LatentRenderer:
        """What draws latents of the model that a footer names.

        Raises:
            CheckpointError: no generator, or another one than the latents are of.
        """
        if self._renderer is None:
            self._renderer = LatentRenderer(record, self.config.drawing)
        return self._renderer

    @contextmanager
    def start(
        self, task: Task, stopwatch: Stopwatch, recorder: CrashRecorder | None
    ) -> Iterator[Edit]:
        """Open a file of latents to be edited; it is closed with the block."""
        with _naming(task.source):
            files, path = storage.filesystem(task.source)
            require_regular(files, path)
            file = files.open_input_file(path)
        with file:
            with _naming(task.source):
                edit = Edit(self, task, stopwatch, pq.ParquetFile(file))
            yield edit


class Edit:
    """One file of latents on its way through an editor."""

    def __init__(
        self, editor: EditorActor, task: Task, stopwatch: Stopwatch, source: pq.ParquetFile
    ) -> None:
        self._editor, self._config = editor, editor.config
        self._task, self._stopwatch, self._source = task, stopwatch, source
        self._record = footer(source.metadata, task.source)
        require_present(self._record, RECORDED, task.source)
        self._require_same_run()
        self._samples = set[int]()
        self.shard = self._record["shard"]
        self.columns = self._config.edits.columns(source.schema_arrow, self._config.save_images)

    def _require_same_run(self) -> None:
        if self._record.get("fingerprint") != self._config.source_fingerprint:
            raise ConfigError(
                "it belongs to a different run than the other files here; move it elsewhere"
            )
        if not self._source.schema_arrow.equals(self._config.columns):
            raise ConfigError("its columns differ from those of the other files here")

    @property
    def n_samples(self) -> int:
        return len(self._samples)

    def batches(self) -> Generator[pa.RecordBatch, None, None]:
        """Edited rows, about a row group at a time."""
        with _naming(self._task.source):
            for batch in self._edited():
                self._samples.update(batch.column("sample_index").to_pylist())
                yield batch

    def _edited(self) -> Iterator[pa.RecordBatch]:
        config, source = self._config, self._source
        renderer = self._editor.renderer(self._record) if config.save_images else None
        n_rows = ROW_GROUP_ROWS
        if renderer is not None:
            n_rows = min(
                n_rows, images.n_jpegs_within(ROW_GROUP_IMAGE_BYTES, int(np.prod(renderer.size)))
            )
        tuned = None
        if renderer is not None and config.pivots is not None:
            copies = None if storage.is_remote(config.out) else f"{config.out}/{pivots.FOLDER}"
            tuned = FilePivots(config.pivots, renderer, self._record, copies=copies)
            n_rows = ROWS_TUNED * config.edits.n_each
        chosen = _Chosen(config, source.schema_arrow, self.columns)
        for batch in self._read(chosen.columns, max(1, n_rows // config.edits.n_each)):
            rows = chosen.rows(batch)
            with self._stopwatch("edit"):
                edited, latents = config.edits.apply(rows)
            pictures: Sequence[bytes | None] | None = None
            if renderer is not None and tuned is not None:
                pictures = self._tuned(renderer, tuned, rows, latents, edited)
            elif renderer is not None:
                with self._stopwatch("draw"):
                    pictures = _drawn(renderer, latents, edited)
            yield from config.edits.batches(edited, pictures, self.columns)

    def _tuned(
        self,
        renderer: LatentRenderer,
        tuned: FilePivots,
        rows: pa.RecordBatch,
        latents: np.ndarray,
        edited: pa.Table,
    ) -> list[bytes | None]:
        """A JPEG of each edited row that has a latent, by the generator tuned for the row it was made of."""
        n_each, pictures = self._config.edits.n_each, list[bytes | None]()
        is_valid = edited.column("latent").is_valid().to_pylist()
        names = ("key", "sample_index", "face", "latent", *COLUMNS)
        for i, row in enumerate(as_dicts(rows, names)):
            valid = is_valid[i * n_each : (i + 1) * n_each]
            own, latents = latents[: sum(valid)], latents[sum(valid) :]
            if not len(own):
                pictures += [None] * n_each
                continue
            with self._stopwatch("tune"):
                delta = tuned.of(row)
            with self._stopwatch("draw"):
                drawn = map(images.encode_jpeg, renderer.draw(own, delta))
                pictures += [next(drawn) if each else None for each in valid]
        return pictures

    def _read(self, columns: Sequence[str], n_rows: int) -> Iterator[pa.RecordBatch]:
        """Some columns of every row of the source."""
        batches = self._source.iter_batches(n_rows, columns=columns)
        n_read = 0
        while True:
            with self._stopwatch("read"):
                batch = next(batches, None)
            if batch is None:
                break
            n_read += len(batch)
            yield batch
        if n_read != self._source.metadata.num_rows:
            raise AssertionError(f"{n_read} of {self._source.metadata.num_rows} rows were read")

    def footer(self) -> dict[str, Any]:
        """The source's own, for its model and latent average are those of the edits too."""
        return {**self._record, "source": redact(self._task.source)}


@contextmanager
def _naming(url: str) -> Iterator[None]:
    """What is wrong with a source is an error of its shard, and names it."""
    try:
        yield
    except OutOfMemory:
        raise
    except (ConfigError, pa.ArrowException, OSError) as error:
        raise ShardError(f"{redact(url)}: {error}") from None


class _Chosen:
    """The rows and columns of a source that are edited."""

    def __init__(self, config: EditorConfig, source: pa.Schema, columns: pa.Schema) -> None:
        self._kept = config.edits.needed(source, columns)
        self._where = None if config.where is None else RowFilter(config.where, source)
        of_where = [] if self._where is None else self._where.columns
        self.columns = list(dict.fromkeys([*self._kept, *of_where]))  # to be read

    def rows(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        if self._where is not None:
            batch = batch.filter(pa.array(self._where.mask(pa.Table.from_batches([batch]))))
        return batch.select(self._kept)


def _drawn(renderer: LatentRenderer, latents: np.ndarray, edited: pa.Table) -> list[bytes | None]:
    """A JPEG of each row that has a latent."""
    drawn = iter(renderer.draw(latents))
    is_valid = edited.column("latent").is_valid().to_pylist()
    return [images.encode_jpeg(next(drawn)) if valid else None for valid in is_valid]
