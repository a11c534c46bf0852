"""All rows once, in batches: shuffled by reading a few row groups at once, shared out without overlap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import tee
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from pipeline.latents import columns
from pipeline.latents.columns import Columns
from pipeline.latents.selection import Selection

# Row groups whose rows are mixed: with groups of 1,024 rows of 18 x 512 floats, 150 MB.
N_MIXED = 4
# Some rows: the decoded groups, and of each row which of them and where in it.
Rows = tuple[Sequence[Columns], np.ndarray, np.ndarray]


class LatentStream(IterableDataset):
    """Batches of a selection: dicts of tensors [n, ...] and lists of texts.

    Shuffled, row groups come in random order and rows are mixed within four groups at once, so that
    nothing is read twice. The order depends on seed and epoch alone; the batches of a rank are the same
    whatever the number of DataLoader workers, which share them out. Arrays that a failed row does not
    have are NaN.

    Args:
        batch_size: rows in a batch.
        drop_last: leave out the last rows, so that all ranks get the same number of full batches.
        rank, n_ranks: this process, and how many share the rows.
    """

    def __init__(
        self,
        selection: Selection,
        batch_size: int,
        shuffle: bool,
        seed: int,
        drop_last: bool,
        rank: int,
        n_ranks: int,
    ) -> None:
        if batch_size < 1 or not 0 <= rank < n_ranks:
            raise ValueError(f"batch_size {batch_size}, rank {rank} of {n_ranks}: out of range")
        self._selection, self._batch_size = selection, batch_size
        self._shuffle, self._seed = shuffle, seed
        n = len(selection)
        n_batches = n // batch_size // n_ranks * n_ranks if drop_last else -(-n // batch_size)
        self._first, self._end = _share(0, n_batches, rank, n_ranks)
        # Shared, because a DataLoader's persistent workers keep the copies that they were started with.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Choose another order; call it before each epoch, as of a DistributedSampler."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        """Batches of this rank."""
        return self._end - self._first

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        first, end = self._first, self._end
        if worker is not None:
            first, end = _share(first, end, worker.id, worker.num_workers)
        size = self._batch_size
        remainder: Rows | None = None  # rows of the window before that did not fill a batch
        for window in self._rows(first * size, min(end * size, len(self._selection))):
            groups, which, rows = window if remainder is None else _joined(remainder, window)
            n_whole = len(rows) // size * size
            for i in range(0, n_whole, size):
                yield columns.gather(groups, which[i : i + size], rows[i : i + size])
            remainder = groups, which[n_whole:], rows[n_whole:]
        if remainder is not None and len(remainder[2]):
            yield columns.gather(*remainder)

    def _rows(self, start: int, end: int) -> Iterator[Rows]:
        """The rows at some positions of the epoch's order, window by window."""
        windows, ahead = tee(self._windows(start, end))
        decoded = self._selection.read_ahead(g for groups, _, _ in ahead for g in groups)
        for groups, which, rows in windows:
            yield [next(decoded) for _ in groups], which, rows

    def _windows(self, start: int, end: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Groups of each window that reaches into [start, end), and its rows there."""
        ends, epoch = self._selection.ends, int(self._epoch)
        order = np.flatnonzero(np.diff(ends, prepend=0))
        if self._shuffle:
            order = np.random.default_rng([self._seed, epoch]).permutation(order)
        n_mixed = N_MIXED if self._shuffle else 1
        position = 0  # of the window's first row
        for number, i in enumerate(range(0, len(order), n_mixed)):
            groups = order[i : i + n_mixed]
            n_rows = sum(self._selection.n_rows(g) for g in groups)
            if position < end and position + n_rows > start:
                kept = slice(max(0, start - position), end - position)
                yield self._window(groups, [self._seed, epoch, number], kept)
            position += n_rows

    def _window(
        self, groups: np.ndarray, seed: list[int], kept: slice
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        all_rows = [self._selection.rows(g) for g in groups]
        which = np.repeat(np.arange(len(groups)), [len(rows) for rows in all_rows])
        rows = np.concatenate(all_rows)
        if self._shuffle:
            mixed = np.random.default_rng(seed).permutation(len(rows))
            which, rows = which[mixed], rows[mixed]
        which, rows = which[kept], rows[kept]
        used = np.unique(which)  # at the edges of a share, perhaps not all
        return groups[used], np.searchsorted(used, which), rows


def _share(first: int, end: int, part: int, n_parts: int) -> tuple[int, int]:
    """One of ``n_parts`` parts of a range, as even as can be."""
    n = max(0, end - first)
    return first + n * part // n_parts, first + n * (part + 1) // n_parts


def _joined(remainder: Rows, right: Rows) -> Rows:
    used = np.unique(remainder[1])  # the others may leave memory
    groups = [*(remainder[0][g] for g in used), *right[0]]
    which = np.concatenate([np.searchsorted(used, remainder[1]), right[1] + len(used)])
    return groups, which, np.concatenate([remainder[2], right[2]])
