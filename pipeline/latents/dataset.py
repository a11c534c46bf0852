"""LatentDataset: rows of a latent data set of any size, for torch."""

from __future__ import annotations

import math
import operator
import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pyarrow as pa

from pipeline.errors import ConfigError
from pipeline.latents import columns as columns_
from pipeline.latents import record
from pipeline.latents.columns import Columns
from pipeline.latents.files import LatentFiles, open_files
from pipeline.latents.schema import is_nested, numbers_type, value_shape
from pipeline.latents.selection import Selection

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
        where: which rows; see :class:`~pipeline.latents.where.RowFilter`. None: all of them.
        columns: which columns, in this order. None: all of them.

    Raises:
        ConfigError (a ValueError): no Parquet file, files of runs with other settings, or other widths, an
            unknown column.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        where: str | Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
    ) -> None:
        self._selection = Selection(open_files(os.fspath(path)), where, columns)
        self._cache: OrderedDict[int, Columns] = OrderedDict()
        n_bytes = sum(_row_bytes(self.schema.field(name)) for name in self.columns)
        largest = max((group.n_rows for group in self._files.groups), default=0)
        self._n_cached = min(N_CACHED_GROUPS, MAX_CACHED_BYTES // max(1, n_bytes * largest))

    @property
    def _files(self) -> LatentFiles:
        return self._selection.files

    @property
    def columns(self) -> list[str]:
        """The columns that a row has."""
        return self._selection.columns

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

        values = record.latent_avg(self.footer)
        if values is None:
            raise ConfigError(
                f"{self._files.address} does not record the average latent of a model"
            )
        return torch.from_numpy(values)

    def __len__(self) -> int:
        return len(self._selection)

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
        by_row: dict[int, dict[str, Any]] = {}
        for i in sorted(range(len(places)), key=places.__getitem__):
            group, row = places[i]
            by_row[i] = columns_.item(self._group(group), row)
        return [by_row[i] for i in range(len(places))]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Every row in stored order."""
        for group in range(len(self._files.groups)):
            if len(rows := self._selection.rows(group)):
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
        return self._selection.place(index % n)

    def _group(self, group: int) -> Columns:
        if group not in self._cache:
            while self._cache and len(self._cache) >= self._n_cached:
                self._cache.popitem(last=False)
            self._cache[group] = self._selection.read(group)
        self._cache.move_to_end(group)
        return self._cache[group]

    def tables(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Some columns of the rows, a row group at a time, the next ones read meanwhile."""
        return self._selection.tables(columns)

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows as one Arrow table, in stored order, null where something is missing.

        Args:
            columns: which; None takes those of the data set.
        """
        return self._selection.table(columns)

    def latents(self) -> Tensor:
        """Latents of the rows that have one (status ok), [N, n_styles, w_dim], in stored order.

        float32, or float16 where they were stored so.
        """
        import torch

        self._selection.require(["latent"])
        none = self._selection.decoded(self.schema.empty_table().select(["latent"]))["latent"]
        if (
            not isinstance(none, columns_.Arrays)
            or value_shape(self.schema.field("latent")) is None
        ):
            raise ConfigError(f"the column latent of {self._files.address} has no fixed shape")
        out = torch.from_numpy(np.empty((len(self), *none.values.shape[1:]), none.values.dtype))
        n = 0
        for table in self.tables(["latent"]):
            column = self._selection.decoded(table)["latent"]
            assert isinstance(column, columns_.Arrays)
            values = column.values if column.valid is None else column.values[column.valid]
            out[n : n + len(values)].numpy()[:] = values
            n += len(values)
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

        return LatentStream(self._selection, batch_size, shuffle, seed, drop_last, rank, n_ranks)


def _row_bytes(column: pa.Field) -> int:
    """About how much a value takes decoded; what has no known size is not counted."""
    n = math.prod(value_shape(column) or ()) if is_nested(column.type) else 1
    type_ = numbers_type(column.type)
    return n * (type_.bit_width // 8 if pa.types.is_primitive(type_) else 64)
