"""Rows of latents -> rows of their edits: each source row once for every direction and strength."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.latents.record import SHAPES
from pipeline.latents.schema import dense, nested_array
from pipeline.records import Status

NOT_FINITE_ERROR = "the edited latent overflows its data type; pass a smaller strength"
PICTURES = ("aligned_image", "reconstruction")
ARRAYS = frozenset({"latent", "quad", "landmarks"})


def as_dicts(
    batch: pa.RecordBatch, columns: Sequence[str] | None = None
) -> Iterator[dict[str, Any]]:
    """Rows one by one; latents, quads and landmarks as numpy has them.

    Args:
        columns: only these, where there are such; None: all.

    Raises:
        ConfigError: an array is damaged.
    """
    names = [n for n in batch.schema.names if columns is None or n in columns]
    plain = batch.select([name for name in names if name not in ARRAYS])
    for i, row in enumerate(plain.to_pylist()):
        for name in ARRAYS.intersection(names):
            value = batch.column(name).slice(i, 1)
            row[name] = None if value.null_count else dense(value, SHAPES.get(name))[0]
        yield row


@dataclass(frozen=True)
class Edits:
    """Directions and strengths; every row is edited by each pair, in this order."""

    names: tuple[str, ...]  # of the directions
    directions: np.ndarray  # [n_directions, n_styles, w_dim] float32
    strengths: tuple[float, ...]

    @property
    def n_each(self) -> int:
        """Edits of one row."""
        return len(self.names) * len(self.strengths)

    @staticmethod
    def columns(source: pa.Schema, save_images: bool) -> pa.Schema:
        """Those of the edited rows: the source's, `direction` and `strength` after the latent.

        Latents of every step are left out, for they are not edited; so are pictures, unless the edits
        are drawn.
        """
        fields = []
        for column in source:
            if column.name in PICTURES or column.name == "latents_by_step":
                continue
            fields.append(column)
            if column.name == "latent":
                fields.append(pa.field("direction", pa.string(), nullable=False))
                fields.append(pa.field("strength", pa.float32(), nullable=False))
        if save_images:
            fields += [column for column in source if column.name == "aligned_image"]
            fields.append(pa.field("reconstruction", pa.binary()))
        return pa.schema(fields)

    @staticmethod
    def needed(source: pa.Schema, columns: pa.Schema) -> list[str]:
        """Columns of the source that go into the edited rows."""
        return [name for name in columns.names if name in source.names and name != "reconstruction"]

    def apply(self, batch: pa.RecordBatch) -> tuple[pa.Table, np.ndarray]:
        """Edited rows, and the latents [M, n_styles, w_dim] float32 of those that have one.

        A row that failed has no latent, and its edits fail with it; so does an edit that is not finite.
        """
        valid = np.repeat(batch.column("latent").is_valid().to_numpy(False), self.n_each)
        latents = dense(batch.column("latent").drop_null())
        offsets = np.multiply.outer(np.asarray(self.strengths, np.float32), self.directions)
        # [n_strengths, n_directions, ...] -> directions outside, strengths inside
        offsets = offsets.swapaxes(0, 1).reshape(-1, *self.directions.shape[1:])
        with np.errstate(over="ignore", invalid="ignore"):
            edited = latents.astype(np.float32)[:, None] + offsets[None]
            edited = edited.reshape(-1, *offsets.shape[1:]).astype(latents.dtype)
        finite = np.isfinite(edited).all(axis=(1, 2))
        is_lost = valid.copy()
        is_lost[valid] = ~finite
        table = self._repeated(batch, valid & ~is_lost, is_lost, edited[finite])
        return table, edited[finite].astype(np.float32)

    def _repeated(
        self,
        batch: pa.RecordBatch,
        has_latent: np.ndarray,
        is_lost: np.ndarray,
        latents: np.ndarray,
    ) -> pa.Table:
        others = batch.drop_columns(["latent"])
        rows = pa.Table.from_batches([others]).take(np.repeat(np.arange(len(batch)), self.n_each))
        values = iter(latents)
        column = nested_array(
            [next(values) if has else None for has in has_latent], batch.schema.field("latent")
        )
        n = len(batch)
        new = {
            "latent": column,
            "direction": pa.array(
                list(np.repeat(self.names, len(self.strengths))) * n, pa.string()
            ),
            "strength": pa.array(list(self.strengths) * (len(self.names) * n), pa.float32()),
        }
        for name, values_ in new.items():
            rows = rows.append_column(name, values_)
        if is_lost.any():
            rows = _marked(rows, "status", is_lost, str(Status.NOT_FINITE))
            rows = _marked(rows, "error", is_lost, NOT_FINITE_ERROR)
        return rows

    @staticmethod
    def batches(
        rows: pa.Table, pictures: Sequence[bytes | None] | None, columns: pa.Schema
    ) -> list[pa.RecordBatch]:
        """Edited rows as they are written."""
        if pictures is not None:
            rows = rows.append_column("reconstruction", pa.array(pictures, pa.binary()))
        return rows.select(columns.names).cast(columns).combine_chunks().to_batches()


def _marked(rows: pa.Table, name: str, where: np.ndarray, value: str) -> pa.Table:
    import pyarrow.compute as pc

    column = pc.if_else(pa.array(where), value, rows.column(name))
    return rows.set_column(rows.column_names.index(name), name, column)
