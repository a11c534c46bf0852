"""Rows of one shard -> one Parquet file, whose appearance under its name is the commit."""

from __future__ import annotations

import json
import os
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs as pafs

from pipeline import storage
from pipeline.config import FOOTER_KEY, RUN_FOLDER
from pipeline.errors import ShardError
from pipeline.latents import schema
from pipeline.latents.record import footer
from pipeline.latents.schema import Row
from pipeline.storage.filesystems import make_folder
from pipeline.storage.retry import Retry
from pipeline.storage.urls import redact, redacted_message

ROW_GROUP_ROWS = 1024
# Pictures and texts make rows large: a group is closed earlier at this size, so that memory is bounded.
ROW_GROUP_IMAGE_BYTES = 64 << 20
COPY_BLOCK = 8 << 20


class ShardWriter:
    """Writes rows as they come, out of sight; :meth:`commit` makes the file appear whole.

    Content depends on the rows and the footer alone: written twice, the file is the same to the byte, so
    a worker that was thought dead and commits late changes nothing.
    """

    def __init__(
        self,
        out: str,  # folder or object-store prefix
        name: str,  # of the Parquet file
        shard: str,  # URL, for the column
        columns: pa.Schema,
        *,
        row_group_rows: int = ROW_GROUP_ROWS,
        row_group_bytes: int = ROW_GROUP_IMAGE_BYTES,  # of pictures and texts
        copy_block: int = COPY_BLOCK,  # bytes sent to a store at once
    ) -> None:
        self._out, self._name, self._shard, self._columns = out, name, shard, columns
        self._group_rows, self._group_bytes = row_group_rows, row_group_bytes
        self._copy_block = copy_block
        self._files, self._folder = storage.filesystem(out)
        self._local = isinstance(self._files, pafs.LocalFileSystem)
        self._part = f"{self._folder}/{RUN_FOLDER}/parts/{name}.{uuid.uuid4().hex}"
        # Local: beside its goal, for rename works within one filesystem only. For an object store: a file
        # without a name, which is gone with the process.
        self._sink = self._open_part() if self._local else tempfile.TemporaryFile()  # noqa: SIM115
        self._rows: list[Row] = []
        self._n_bytes = 0  # of pictures and texts in those
        self.n_rows = 0
        latents = [c.name for c in columns if c.name.startswith("latent")]
        self._parquet = pq.ParquetWriter(
            self._sink,
            columns,
            compression="zstd",
            compression_level=3,
            # Latents never repeat: a dictionary of them costs time and saves nothing.
            use_dictionary=[c.name for c in columns if c.name not in latents],
        )

    def _open_part(self) -> BinaryIO:
        Path(self._part).parent.mkdir(parents=True, exist_ok=True)
        return open(self._part, "wb")

    def add(self, rows: Sequence[Row] | pa.RecordBatch) -> None:
        """Rows to be gathered into row groups, or rows that are Arrow already, as a group of their own."""
        if isinstance(rows, pa.RecordBatch):
            self._parquet.write_batch(rows)
            self.n_rows += len(rows)
            return
        self._rows += rows
        self.n_rows += len(rows)
        self._n_bytes += sum(map(_size, rows))
        if self._n_bytes >= self._group_bytes:
            self._flush(len(self._rows))
        while len(self._rows) >= self._group_rows:
            self._flush(self._group_rows)

    def _flush(self, n: int) -> None:
        batch, self._rows = self._rows[:n], self._rows[n:]
        self._n_bytes = 0
        self._parquet.write_batch(schema.record_batch(batch, self._shard, self._columns))

    def commit(self, footer: Mapping[str, Any]) -> None:
        """Close the file with its footer and put it in place.

        Raises:
            ShardError: a store does not take it; nothing stands under its name that did not before.
        """
        if self._rows:
            self._flush(len(self._rows))
        record = json.dumps({**footer, "n_rows": self.n_rows}, sort_keys=True)
        self._parquet.add_key_value_metadata({FOOTER_KEY.decode(): record})
        self._parquet.close()
        if self._local:
            self._rename()
        else:
            self._upload()
        self._sink.close()

    def standing(self) -> dict[str, Any]:
        """Footer of the file that stands under the name already, from an earlier run; empty: none does."""
        try:
            metadata = pq.read_metadata(f"{self._folder}/{self._name}", filesystem=self._files)
        except FileNotFoundError:
            return {}
        return footer(metadata, self._name)

    def _rename(self) -> None:
        goal = Path(self._folder) / self._name
        self._sink.flush()
        os.fsync(self._sink.fileno())
        try:
            os.replace(self._part, goal)
        except FileNotFoundError:
            # Another worker committed this shard and swept its parts, this one among them: then the same
            # rows are in place.
            if not goal.exists():
                raise
        _sync_folder(goal.parent)
        # Parts of this shard that a killed worker left.
        for leftover in Path(self._part).parent.glob(f"{self._name}.*"):
            leftover.unlink(missing_ok=True)

    def _upload(self) -> None:
        """An object of its own, then moved: whatever breaks the upload, the goal is whole or untouched.

        Raises:
            ShardError: the store refuses, or fails again and again.
        """
        retry = Retry()
        while True:
            try:
                self._put()
                return
            except Exception as error:
                self._forget_part()
                goal = f"{redact(self._out)}/{self._name}"
                why = redacted_message(error, self._out)
                retry.wait_or_raise(error, ShardError(f"cannot write {goal}: {why}"))
            except BaseException:
                self._forget_part()
                raise

    def _put(self) -> None:
        n_bytes = self._sink.seek(0, os.SEEK_END)
        self._sink.seek(0)
        make_folder(self._files, os.path.dirname(self._part))
        with self._files.open_output_stream(self._part) as object_:
            while block := self._sink.read(self._copy_block):
                object_.write(block)
        # Leaving the block closes the object also after a failed write, and that stores what there is.
        stored = self._files.get_file_info(self._part).size
        if stored != n_bytes:
            raise OSError(f"the store holds {stored} of {n_bytes} bytes")
        self._files.move(self._part, f"{self._folder}/{self._name}")

    def _forget_part(self) -> None:
        # At best: a store that fails may fail here too, and then the first error is the one to tell.
        with suppress(Exception):
            if self._files.get_file_info(self._part).type == pafs.FileType.File:
                self._files.delete_file(self._part)

    def abandon(self) -> None:
        """Leave nothing behind, also where the disk is full and closing fails.

        Raises nothing: what it is called for is the error to tell.
        """
        for close in (self._parquet.close, self._sink.close):
            with suppress(Exception):
                close()
        if self._local:
            with suppress(OSError):
                os.unlink(self._part)


def _size(row: Row) -> int:
    """Bytes of what may be large."""
    parts = (row.aligned_image, row.reconstruction, *row.labels.values())
    return sum(len(part) for part in parts if isinstance(part, bytes | str))


def _sync_folder(path: Path) -> None:
    """Have the disk hold the new name, not only the page cache."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
