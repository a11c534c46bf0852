"""Selection: some rows and columns of a run's files, row group by row group, decoded when asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from pipeline.config import n_entries
from pipeline.errors import ConfigError
from pipeline.latents import columns as columns_
from pipeline.latents.columns import Columns
from pipeline.latents.files import N_WAITING_THREADS, LatentFiles
from pipeline.latents.where import RowFilter


class Selection:
    """The rows that a filter keeps, and some columns of them.

    Args:
        files: of one run.
        where: which rows; see :class:`~pipeline.latents.where.RowFilter`. None: all of them.
        columns: which columns, in this order. None: all of them.

    Raises:
        ConfigError: an unknown column, or a filter that cannot be read.
    """

    def __init__(
        self, files: LatentFiles, where: str | Sequence[str] | None, columns: Sequence[str] | None
    ) -> None:
        self.files = files
        self.columns = files.schema.names if columns is None else list(columns)
        self.require(self.columns)
        # Rows of each group that are meant; None: all.
        self._where = None if where is None else self._chosen(RowFilter(where, files.schema))
        sizes = [self.n_rows(group) for group in range(len(files.groups))]
        self.ends = np.cumsum([0, *sizes])[1:]  # of each group, among the rows that are meant
        settings = files.footer.get("identity", {})
        self._n_steps = n_entries(settings) if "steps" in settings else 0

    def require(self, columns: Sequence[str]) -> None:
        """Raises ConfigError for a column that the files do not have."""
        for name in columns:
            if name not in self.files.schema.names:
                existing = ", ".join(self.files.schema.names)
                raise ConfigError(f"{self.files.address} has no column {name!r}; it has {existing}")

    def _chosen(self, where: RowFilter) -> list[np.ndarray]:
        # Small columns of many files: all waiting, in an object store.
        tables = self.files.read_ahead(self.files.groups, where.columns, N_WAITING_THREADS)
        return [np.flatnonzero(where.mask(table)).astype(np.int32) for table in tables]

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def place(self, row: int) -> tuple[int, int]:
        """Group of a row, and its position in it."""
        group = int(np.searchsorted(self.ends, row, side="right"))
        position = int(row - (self.ends[group - 1] if group else 0))
        return group, position if self._where is None else int(self._where[group][position])

    def rows(self, group: int) -> np.ndarray:
        """Rows of a group that are meant, by their position in it."""
        if self._where is not None:
            return self._where[group]
        return np.arange(self.files.groups[group].n_rows)

    def n_rows(self, group: int) -> int:
        """How many rows of a group are meant."""
        return self.files.groups[group].n_rows if self._where is None else len(self._where[group])

    def read(self, group: int) -> Columns:
        """The columns of all rows of a group."""
        return self.decoded(self.files.read(self.files.groups[group], self.columns))

    def decoded(self, table: pa.Table) -> Columns:
        """The columns of a table that was read from these files."""
        return columns_.decoded(table, self._n_steps)

    def read_ahead(self, groups: Iterator[int]) -> Iterator[Columns]:
        """The columns of some groups, the next ones read meanwhile."""
        wanted = (self.files.groups[group] for group in groups)
        return (self.decoded(table) for table in self.files.read_ahead(wanted, self.columns))

    def tables(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Some columns of the rows, a row group at a time, the next ones read meanwhile."""
        self.require(columns)
        wanted = [g for g in range(len(self.ends)) if self._where is None or len(self._where[g])]
        groups = [self.files.groups[g] for g in wanted]
        for g, table in zip(wanted, self.files.read_ahead(groups, columns), strict=True):
            rows = None if self._where is None else self._where[g]
            is_whole = rows is None or len(rows) == len(table)
            yield table if is_whole else table.take(pa.array(rows))

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows as one Arrow table, in stored order, null where something is missing.

        Args:
            columns: which; None takes those of the selection.
        """
        names = self.columns if columns is None else list(columns)
        tables = list(self.tables(names))
        schema = pa.schema([self.files.schema.field(name) for name in names])
        return pa.concat_tables(tables) if tables else schema.empty_table()
