"""LatentDataset: rows of a latent data set of any size, for torch."""

from __future__ import annotations

import base64
import operator
import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pyarrow as pa

from pipeline.config import ConfigError
from pipeline.latents import columns as columns_
from pipeline.latents.columns import Columns
from pipeline.latents.files import N_WAITING_THREADS, open_files
from pipeline.latents.where import Where

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.latents.stream import LatentStream

# Row groups kept decoded: a reader that jumps within a shard stays fast, memory stays bounded.
MAX_CACHED_BYTES = 512 << 20
N_CACHED_GROUPS = 8


class LatentDataset:
    """Rows of a folder, a file or a glob (local, s3, gs), read when they are asked for.

    A map-style data set for torch's DataLoader; :meth:`stream` is the way to read all rows shuffled.

    ``ds[i]`` is a dict of one row, ``ds[i:j]`` a list of them: latents, geometry and metrics (one value a
    step, NaN where not measured) as tensors, None where a failed row has none; numbers, NaN where missing;
    texts, "" where missing; pictures [3, H, W] in [-1, 1], decoded when the row is asked for. Opening reads
    the footers, and with ``where`` the columns it names. May be pickled; in a DataLoader's workers use
    ``multiprocessing_context="spawn"`` with object stores, whose clients do not survive a fork.

    Args:
        path: the ``--out`` of a run, or which of its files.
        where: which rows; see :class:`~pipeline.latents.where.Where`. None: all of them.
        columns: which columns, in this order. None: all of them.

    Raises:
        ConfigError (a ValueError): no Parquet file, files of runs with other settings, or other widths, an
            unknown column.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        where: str | None = None,
        columns: Sequence[str] | None = None,
    ) -> None:
        self._files = open_files(os.fspath(path))
        schema = self._files.schema
        self.columns = schema.names if columns is None else list(columns)
        self._require(self.columns)
        # Rows of each group that are meant; None: all.
        self._where = None if where is None else self._chosen(Where(where, schema))
        sizes = [self._n_rows(group) for group in range(len(self._files.groups))]
        self._ends = np.cumsum([0, *sizes])[1:]  # of each group, among the rows that are meant
        self._n_steps = self.footer.get("identity", {}).get("steps", 0)
        self._cache: OrderedDict[int, Columns] = OrderedDict()
        n_bytes = sum(_row_bytes(schema.field(name).type) for name in self.columns)
        largest = max((group.n_rows for group in self._files.groups), default=0)
        self._n_cached = min(N_CACHED_GROUPS, MAX_CACHED_BYTES // max(1, n_bytes * largest))

    def _require(self, columns: Sequence[str]) -> None:
        for name in columns:
            if name not in self.schema.names:
                known = ", ".join(self.schema.names)
                raise ConfigError(f"{self._files.address} has no column {name!r}; it has {known}")

    def _chosen(self, where: Where) -> list[np.ndarray]:
        # Small columns of many files: all waiting, in an object store.
        tables = self._files.read_ahead(self._files.groups, where.columns, N_WAITING_THREADS)
        return [np.flatnonzero(where.mask(table)).astype(np.int32) for table in tables]

    @property
    def schema(self) -> pa.Schema:
        """All columns of the files, chosen or not."""
        return self._files.schema

    @property
    def address(self) -> str:
        """Where the files are, as given, without secrets."""
        return self._files.address

    @property
    def footer(self) -> dict[str, Any]:
        """What the footers of all files share: fingerprint, identity, model, latent_avg ...; {} for files
        of another origin."""
        return self._files.footer

    @property
    def latent_avg(self) -> Tensor:
        """The model's average latent, as its checkpoint has it: [w_dim] or [n_styles, w_dim]."""
        import torch

        if "latent_avg" not in self.footer:
            raise ConfigError(f"{self._files.address} does not name the average latent of a model")
        values = np.frombuffer(base64.b64decode(self.footer["latent_avg"]), "<f4")
        return torch.from_numpy(values.astype(np.float32)).reshape(self.footer["latent_avg_shape"])

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...

    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if isinstance(index, slice):
            return self.__getitems__(range(len(self))[index])
        group, row = self._place(index)
        return columns_.item(self._group(group), row)

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Several rows, each group read once; DataLoader asks for a batch this way."""
        places = [self._place(index) for index in indices]
        found: dict[int, dict[str, Any]] = {}
        for i in sorted(range(len(places)), key=places.__getitem__):
            group, row = places[i]
            found[i] = columns_.item(self._group(group), row)
        return [found[i] for i in range(len(places))]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Every row in stored order."""
        for group in range(len(self._ends)):
            if len(rows := self._rows(group)):
                columns = self._group(group)
                for row in rows:
                    yield columns_.item(columns, row)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": OrderedDict()}

    def _place(self, index: int) -> tuple[int, int]:
        """Group of a row, and its place in it."""
        n, index = len(self), operator.index(index)
        if not -n <= index < n:
            raise IndexError(f"row {index} of {n}")
        index %= n
        group = int(np.searchsorted(self._ends, index, side="right"))
        row = int(index - (self._ends[group - 1] if group else 0))
        return group, row if self._where is None else int(self._where[group][row])

    def _rows(self, group: int) -> np.ndarray:
        """Rows of a group that are meant, by their place in it."""
        if self._where is not None:
            return self._where[group]
        return np.arange(self._files.groups[group].n_rows)

    def _n_rows(self, group: int) -> int:
        return self._files.groups[group].n_rows if self._where is None else len(self._where[group])

    def _group(self, group: int) -> Columns:
        if group not in self._cache:
            while self._cache and len(self._cache) >= self._n_cached:
                self._cache.popitem(last=False)
            table = self._files.read(self._files.groups[group], self.columns)
            self._cache[group] = self._decoded(table)
        self._cache.move_to_end(group)
        return self._cache[group]

    def _decoded(self, table: pa.Table) -> Columns:
        return columns_.decoded(table, self._n_steps)

    def tables(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Some columns of the rows, a row group at a time, the next ones read meanwhile."""
        self._require(columns)
        wanted = [g for g in range(len(self._ends)) if self._where is None or len(self._where[g])]
        groups = [self._files.groups[g] for g in wanted]
        for g, table in zip(wanted, self._files.read_ahead(groups, columns), strict=True):
            rows = None if self._where is None else self._where[g]
            is_whole = rows is None or len(rows) == len(table)
            yield table if is_whole else table.take(pa.array(rows))

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows as one Arrow table, in stored order, null where something is missing.

        Args:
            columns: which; None takes those of the data set.
        """
        names = self.columns if columns is None else list(columns)
        tables = list(self.tables(names))
        schema = pa.schema([self.schema.field(name) for name in names])
        return pa.concat_tables(tables) if tables else schema.empty_table()

    def latents(self) -> Tensor:
        """Latents of the rows that have one (status ok), [N, n_styles, w_dim], in stored order.

        float32, or float16 where they were stored so.
        """
        import torch

        self._require(["latent"])
        none = self._decoded(self.schema.empty_table().select(["latent"]))["latent"]
        if not isinstance(none, columns_.Arrays):
            raise ConfigError(f"the column latent of {self._files.address} has no fixed shape")
        out = torch.from_numpy(np.empty((len(self), *none.values.shape[1:]), none.values.dtype))
        n = 0
        for table in self.tables(["latent"]):
            column = self._decoded(table)["latent"]
            assert isinstance(column, columns_.Arrays)
            found = column.values if column.valid is None else column.values[column.valid]
            out[n : n + len(found)].numpy()[:] = found
            n += len(found)
        return out[:n]

    def stream(
        self,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        rank: int = 0,
        n_ranks: int = 1,
    ) -> LatentStream:
        """Batches of all rows, read once in large pieces; for ``DataLoader(..., batch_size=None)``.

        See :class:`~pipeline.latents.stream.LatentStream`.
        """
        from pipeline.latents.stream import LatentStream

        return LatentStream(self, batch_size, shuffle, seed, drop_last, rank, n_ranks)


def _row_bytes(type_: pa.DataType) -> int:
    """About how much a value takes decoded; what has no fixed size is not counted."""
    n = 1
    while pa.types.is_fixed_size_list(type_):
        n *= type_.list_size
        type_ = type_.value_type
    return n * (type_.bit_width // 8 if pa.types.is_primitive(type_) else 64)
