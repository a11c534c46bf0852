"""The photos that rows were made from, read again from their shard."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pipeline import storage
from pipeline.errors import ShardError
from pipeline.shards import reader


class SourceUnusable(ShardError):
    """A shard that no longer holds what its rows were made from.

    Attributes:
        why: without the address, to be set behind a name.
    """

    def __init__(self, url: str, why: str) -> None:
        super().__init__(f"{storage.redact(url)} {why}")
        self.why = why


class SourcePhotos:
    """Source photos of one shard, asked for in stored order: the tar is read once, as a stream.

    The address may come from an untrusted Parquet file, so no command is run for it.
    """

    def __init__(self, url: str, decode: Callable[[bytes], np.ndarray | None]) -> None:
        """
        Args:
            decode: an image file to [H, W, 3] uint8, or None where it is damaged.

        Raises:
            SourceUnusable: the shard came out of a command.
        """
        if url.startswith(storage.PIPE):
            raise SourceUnusable(url, "came out of a command, which is not run a second time")
        self._url, self._decode = url, decode
        self._samples = reader.samples(url)
        self._index = -1
        self._key = ""
        self._photo: np.ndarray | None = None

    def of(self, row: Mapping[str, Any]) -> np.ndarray | None:
        """The photo that a row was made from, [H, W, 3] uint8; None where it failed to decode then and now.

        Args:
            row: with ``sample_index``, ``key``, ``height`` and ``width``; no earlier sample than the last.

        Raises:
            SourceUnusable: the shard has changed.
            ShardError: it cannot be read.
        """
        while self._index < row["sample_index"]:
            sample = next(self._samples, None)
            if sample is None:
                break
            self._index, self._key, self._photo = sample.index, sample.key, None
            if sample.index == row["sample_index"]:
                self._photo = None if sample.image is None else self._decode(sample.image)
        size = (None, None) if self._photo is None else self._photo.shape[:2]
        is_there = self._index == row["sample_index"] and self._key == row["key"]
        if not is_there or size != (row["height"], row["width"]):
            raise SourceUnusable(self._url, "has changed since it was inverted")
        return self._photo
