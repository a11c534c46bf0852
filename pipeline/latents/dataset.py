"""LatentDataset: rows of a latent data set of any size, for torch."""

from __future__ import annotations

import copy
import math
import operator
import os
import re
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import ConfigError
from pipeline.latents import columns as columns_
from pipeline.latents import record
from pipeline.latents.columns import Columns
from pipeline.latents.files import LatentFiles, open_files
from pipeline.latents.schema import is_nested, numbers_type, value_shape
from pipeline.latents.selection import Selection
from pipeline.latents.where import of_step
from pipeline.records import Status
from pipeline.shards import label_file
from pipeline.shards.label_file import LabelTable

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.latents.stream import LatentStream

# Row groups kept decoded: a reader that jumps within a shard stays fast, memory stays bounded.
MAX_CACHED_BYTES = 512 << 20
N_CACHED_GROUPS = 8
N_TOGETHER = 256  # rows in another order that are looked for at once
N_SHOWN = 6  # columns
STEP = re.compile(r"(.+)\[(-?\d+)\]")  # of a metric


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
        labels: a CSV or Parquet file with labels of the rows, which become columns ``label_<name>``.
        on: the column of it that holds the rows' keys, or the names of their image files.

    Raises:
        ConfigError (a ValueError): no Parquet file, files of runs with other settings, or other widths, an
            unknown column, labels that cannot be read.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        where: str | Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        *,
        labels: str | os.PathLike[str] | None = None,
        on: str = "key",
    ) -> None:
        files = open_files(os.fspath(path))
        if labels is not None:
            files = files.joined(label_file.read(os.fspath(labels), on))
        self._selection = Selection(files, where, columns)
        self._order: np.ndarray | None = None  # of the rows, as `sort` made it; None: as stored
        self._cache: OrderedDict[int, Columns] = OrderedDict()
        n_bytes = sum(_row_bytes(self.schema.field(name)) for name in self.columns)
        largest = max((group.n_rows for group in self._files.groups), default=0)
        self._n_cached = min(N_CACHED_GROUPS, MAX_CACHED_BYTES // max(1, n_bytes * largest))

    def __repr__(self) -> str:
        n, n_stored = len(self), sum(group.n_rows for group in self._files.groups)
        rows = f"{n:,} rows" if n == n_stored else f"{n:,} of {n_stored:,} rows"
        ok = self.n_by_status.get(Status.OK)
        if ok is not None and n == n_stored:
            rows += f", {ok:,} ok"
        shape = self._latent_shape()
        size = "" if shape is None else f", latents {' x '.join(map(str, shape))}"
        shown = ", ".join(self.columns[:N_SHOWN])
        more = len(self.columns) - N_SHOWN
        named = f"{shown} and {more} more" if more > 0 else shown
        return f"LatentDataset({self.address!r}: {rows}{size}; columns {named})"

    @property
    def _files(self) -> LatentFiles:
        return self._selection.files

    @property
    def label_table(self) -> LabelTable | None:
        """The labels that were joined to the rows; None: none were."""
        return self._files.labels

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
    def n_by_status(self) -> dict[str, int]:
        """How many rows of the files, chosen or not, have which status; {} for files of another origin."""
        return self._files.n_by_status

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
        """Every row in order."""
        if self._order is not None:
            for first in range(0, len(self), N_TOGETHER):
                yield from self[first : first + N_TOGETHER]
            return
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
        row = index % n if self._order is None else int(self._order[index % n])
        return self._selection.place(row)

    def _group(self, group: int) -> Columns:
        if group not in self._cache:
            while self._cache and len(self._cache) >= self._n_cached:
                self._cache.popitem(last=False)
            self._cache[group] = self._selection.read(group)
        self._cache.move_to_end(group)
        return self._cache[group]

    def sort(self, column: str, descending: bool = False) -> LatentDataset:
        """The same rows in the order of a column: a view, which reads nothing but that column.

        Rows that are equal there stay in the order that they have; rows without a value come last.

        Args:
            column: of numbers, texts or true and false. A metric's name is its last step, ``mse[0]`` its
                first.

        Raises:
            ConfigError: no such column, or one without an order, as latents are.
        """
        name, step = column, -1
        if found := STEP.fullmatch(column):
            name, step = found[1], int(found[2])
        values = self.table([name]).column(name)
        if pa.types.is_list(values.type) and pa.types.is_floating(values.type.value_type):
            values = of_step(values, step)
        try:
            # Stable, and what is missing or NaN at the end, whichever way.
            order = pc.sort_indices(
                pa.table({"value": values}),
                sort_keys=[("value", "descending" if descending else "ascending")],
            ).to_numpy()
        except pa.ArrowException:
            raise ConfigError(
                f"rows have no order by {column!r}, which is {values.type}; sort by numbers or texts"
            ) from None
        view = copy.copy(self)
        view._cache = OrderedDict()
        view._order = order if self._order is None else self._order[order]
        return view

    def tables(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Some columns of the rows, a row group at a time, the next ones read meanwhile.

        Of rows that were sorted, one table of all.
        """
        return iter([self.table(columns)]) if self._order is not None else self._stored(columns)

    def _stored(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        return self._selection.tables(columns)

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows as one Arrow table, in order, null where something is missing.

        Args:
            columns: which; None takes those of the data set.
        """
        table = self._selection.table(columns)
        return table if self._order is None else table.take(pa.array(self._order))

    def latents(self) -> Tensor:
        """Latents of the rows that have one (status ok), [N, n_styles, w_dim], in order.

        float32, or float16 where they were stored so.
        """
        import torch

        return torch.from_numpy(self._latents())

    def to_numpy(self) -> np.ndarray:
        """The same as an array, [N, n_styles, w_dim] float32, however they were stored."""
        return self._latents().astype(np.float32, copy=False)

    def _latent_shape(self) -> tuple[int, ...] | None:
        names = self.schema.names
        return value_shape(self.schema.field("latent")) if "latent" in names else None

    def _latents(self) -> np.ndarray:
        self._selection.require(["latent"])
        none = self._selection.decoded(self.schema.empty_table().select(["latent"]))["latent"]
        if not isinstance(none, columns_.Arrays) or self._latent_shape() is None:
            raise ConfigError(f"the column latent of {self._files.address} has no fixed shape")
        out = np.empty((len(self), *none.values.shape[1:]), none.values.dtype)
        places = np.full(len(self), -1)  # in `out`, of each row as stored; -1: it has none
        n = first = 0
        for table in self._stored(["latent"]):
            column = self._selection.decoded(table)["latent"]
            assert isinstance(column, columns_.Arrays)
            values = column.values if column.valid is None else column.values[column.valid]
            out[n : n + len(values)] = values
            own = np.arange(len(table)) if column.valid is None else np.flatnonzero(column.valid)
            places[first + own] = np.arange(n, n + len(values))
            n, first = n + len(values), first + len(table)
        if self._order is None:
            return out[:n]
        ordered = places[self._order]
        return out[ordered[ordered >= 0]]

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

        Raises:
            ConfigError: the rows were sorted, which large pieces of a file are not.
        """
        if self._order is not None:
            raise ConfigError(
                "a stream reads rows as they are stored; take it of the data set before `sort`, or read "
                "sorted rows by index"
            )
        from pipeline.latents.stream import LatentStream

        return LatentStream(self._selection, batch_size, shuffle, seed, drop_last, rank, n_ranks)


def _row_bytes(column: pa.Field) -> int:
    """About how much a value takes decoded; what has no known size is not counted."""
    n = math.prod(value_shape(column) or ()) if is_nested(column.type) else 1
    type_ = numbers_type(column.type)
    return n * (type_.bit_width // 8 if pa.types.is_primitive(type_) else 64)
