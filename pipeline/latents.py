"""LatentDataset: read the Parquet files of a run back."""

from __future__ import annotations

import bisect
import json
from collections import OrderedDict
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import plan, storage
from pipeline.schema import FOOTER_KEY, dense

# Row groups kept decoded: a shuffled reader of one shard stays fast, memory stays bounded.
N_CACHED_GROUPS = 8


class LatentDataset:
    """Rows of a latent data set, read when they are asked for. A torch map-style dataset.

    ``ds[i]`` is a dict of one row: arrays for latents and geometry, lists for metrics, None where a
    failed row has nothing.

    Raises:
        ValueError: no Parquet file in the folder, or files of runs with other settings among them.
    """

    def __init__(self, path: str) -> None:
        self._files, self._folder = storage.filesystem(path)
        names = plan.committed(path)
        if not names:
            raise ValueError(
                f"no Parquet file in {storage.public(path)}; is it the --out of a run?"
            )
        # (file, row group) and the index of the first row after it
        self._groups: list[tuple[str, int]] = []
        sizes: list[int] = []
        self._names = names
        fingerprints = set()
        for name in names:
            metadata = pq.read_metadata(f"{self._folder}/{name}", filesystem=self._files)
            fingerprints.add(footer(metadata).get("fingerprint"))
            for i in range(metadata.num_row_groups):
                self._groups.append((name, i))
                sizes.append(metadata.row_group(i).num_rows)
        self._ends = list(accumulate(sizes))
        self._cache: OrderedDict[int, pa.Table] = OrderedDict()
        if len(fingerprints) > 1:
            raise ValueError(
                f"{storage.public(path)} mixes runs with other settings; keep one run in a folder"
            )

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        group = bisect.bisect_right(self._ends, index)
        start = self._ends[group - 1] if group else 0
        row = self._group(group).slice(index - start, 1)
        return {name: _value(row.column(name)) for name in row.column_names}

    def _group(self, group: int) -> pa.Table:
        if group not in self._cache:
            name, i = self._groups[group]
            with self._files.open_input_file(f"{self._folder}/{name}") as file:
                self._cache[group] = pq.ParquetFile(file).read_row_group(i)
            if len(self._cache) > N_CACHED_GROUPS:
                self._cache.popitem(last=False)
        self._cache.move_to_end(group)
        return self._cache[group]

    def table(self, columns: list[str] | None = None) -> pa.Table:
        """All rows as one Arrow table, in stored order."""
        parts = [
            pq.read_table(f"{self._folder}/{name}", columns=columns, filesystem=self._files)
            for name in self._names
        ]
        return pa.concat_tables(parts)

    def latents(self) -> np.ndarray:
        """Latents of the rows whose status is ok, [N, n_styles, w_dim]."""
        column = self.table(["latent"]).column("latent").combine_chunks().drop_null()
        return dense(column)


def footer(metadata: pq.FileMetaData) -> dict[str, Any]:
    """Our record in a file's footer; {} in a file of another origin."""
    return json.loads((metadata.metadata or {}).get(FOOTER_KEY, b"{}"))


def _value(column: pa.ChunkedArray) -> Any:
    array = column.combine_chunks()
    if pa.types.is_fixed_size_list(array.type) and array.null_count == 0:
        return dense(array)[0].copy()
    return array[0].as_py()
