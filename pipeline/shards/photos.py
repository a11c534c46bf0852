"""The photos that rows were made from, read again from their shard.

Whoever wrote a Parquet file chose the addresses in it, so none of them is opened: a shard is read from where
the user says that it lies, or from this machine if it is the very file that was inverted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from pipeline import storage
from pipeline.errors import ConfigError, ShardError
from pipeline.shards import reader
from pipeline.storage.listing import TAR_NAMES

LOCAL = "file://"
ADVICE = "; pass --photos with the folder or address of the shards"


class SourceUnusable(ShardError):
    """A shard that no longer holds what its rows were made from.

    Attributes:
        why: without the address, to be set behind a name.
    """

    def __init__(self, url: str, why: str) -> None:
        super().__init__(f"{storage.redact(url)} {why}")
        self.why = why


class SourcePhotos:
    """Source photos of one shard, asked for in stored order: the tar is read once, as a stream."""

    def __init__(
        self,
        shard: str,
        decode: Callable[[bytes], np.ndarray | None],
        photos: str | None = None,
        version: str = "",
    ) -> None:
        """
        Args:
            shard: as the data set names it.
            decode: an image file to [H, W, 3] uint8, or None where it is damaged.
            photos: folder or address that holds the shards, as the user says; None: see :func:`trusted`.
            version: of the shard when it was inverted; "": not known.

        Raises:
            SourceUnusable: the shard is not read.
        """
        self._url, self._decode = trusted(shard, photos, version), decode
        self._samples = reader.samples(self._url)
        self._index = -1
        self._key = ""
        self._photo: np.ndarray | None = None

    def of(self, row: Mapping[str, Any]) -> np.ndarray | None:
        """The photo that a row was made from, [H, W, 3] uint8; None where it fails to decode.

        Args:
            row: with ``sample_index``, ``key``, and where they are known ``height`` and ``width`` (the run
                may not have decoded it: its caption was damaged, say); no earlier sample than the last.

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
        stated = row.get("height"), row.get("width")
        if not is_there or (None not in stated and size != stated):
            raise SourceUnusable(self._url, "has changed since it was inverted")
        return self._photo


def trusted(shard: str, photos: str | None, version: str) -> str:
    """Where to read a shard that a data set names.

    Args:
        photos: folder or address that the user gave; of the data set's own address only the file's name is
            used then. None: the shard must be a file of this machine, unchanged since it was inverted.

    Raises:
        SourceUnusable: it is neither.
        ConfigError: ``photos`` is a command, which would be given a name of the data set.
    """
    if photos is not None:
        if photos.startswith(storage.PIPE):
            raise ConfigError("--photos takes a folder or an address of shards, not a command")
        name = PurePosixPath(shard.partition("?")[0]).name
        if "::" in name or not name.endswith(TAR_NAMES):
            raise SourceUnusable(shard, "does not have the name of a tar file")
        address, mark, options = (
            photos.partition("?") if storage.is_remote(photos) else (photos, "", "")
        )
        return f"{address.rstrip('/')}/{name}{mark}{options}"
    path = shard.removeprefix(LOCAL)
    if storage.is_remote(path):
        raise SourceUnusable(
            shard, "is not opened, because a data set may name any address" + ADVICE
        )
    if not os.path.isfile(path):
        raise SourceUnusable(shard, "is not on this machine" + ADVICE)
    if version and storage.version(path) != version:
        raise SourceUnusable(shard, "has changed since it was inverted")
    return path
