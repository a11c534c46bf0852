"""Rows of one shard -> one Parquet file, whose appearance under its name is the commit."""

from __future__ import annotations

import json
import os
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs as pafs

from pipeline import schema, storage
from pipeline.schema import FOOTER_KEY, Row

ROW_GROUP_ROWS = 1024
COPY_BLOCK = 8 << 20
RUN_FOLDER = "_run"


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
    ) -> None:
        self._name, self._shard, self._columns = name, shard, columns
        self._files, self._folder = storage.filesystem(out)
        self._local = isinstance(self._files, pafs.LocalFileSystem)
        # Local: beside its goal, for rename works within one filesystem only.
        parts = (
            Path(self._folder) / RUN_FOLDER / "parts"
            if self._local
            else Path(tempfile.gettempdir())
        )
        parts.mkdir(parents=True, exist_ok=True)
        self._part = parts / f"{name}.{uuid.uuid4().hex}"
        self._rows: list[Row] = []
        self.n_rows = 0
        latents = [c.name for c in columns if c.name.startswith("latent")]
        self._parquet = pq.ParquetWriter(
            self._part,
            columns,
            compression="zstd",
            compression_level=3,
            # Latents never repeat: a dictionary of them costs time and saves nothing.
            use_dictionary=[c.name for c in columns if c.name not in latents],
        )

    def add(self, rows: Sequence[Row]) -> None:
        self._rows += rows
        self.n_rows += len(rows)
        while len(self._rows) >= ROW_GROUP_ROWS:
            self._flush(ROW_GROUP_ROWS)

    def _flush(self, n: int) -> None:
        batch, self._rows = self._rows[:n], self._rows[n:]
        self._parquet.write_batch(schema.record_batch(batch, self._shard, self._columns))

    def commit(self, footer: Mapping[str, Any]) -> None:
        """Close the file with its footer and put it in place."""
        if self._rows:
            self._flush(len(self._rows))
        record = json.dumps({**footer, "n_rows": self.n_rows}, sort_keys=True)
        self._parquet.add_key_value_metadata({FOOTER_KEY.decode(): record})
        self._parquet.close()
        if self._local:
            self._rename()
        else:
            self._upload()

    def _rename(self) -> None:
        goal = Path(self._folder) / self._name
        _sync(self._part)
        os.replace(self._part, goal)
        _sync(goal.parent)
        # Parts of this shard that a killed worker left.
        for leftover in self._part.parent.glob(f"{self._name}.*"):
            leftover.unlink(missing_ok=True)

    def _upload(self) -> None:
        """One object, which an object store shows when it is closed, never before."""
        goal = f"{self._folder}/{self._name}"
        try:
            with open(self._part, "rb") as part, self._files.open_output_stream(goal) as object_:
                while block := part.read(COPY_BLOCK):
                    object_.write(block)
        except BaseException:
            # Closing on the way out may have completed an object that is cut short.
            self._files.delete_file(goal)
            raise
        self._part.unlink()

    def abandon(self) -> None:
        """Leave nothing behind."""
        self._parquet.close()
        self._part.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Have the disk hold it, not only the page cache."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
