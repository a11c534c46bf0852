"""The photos that rows were made from, read again from their shard.

Whoever wrote a Parquet file chose the addresses in it, so none of them is opened: a shard is read from where
the user says that it lies, or from this machine if it is the very file that was inverted. So with photos that
were inverted where they lie: none is opened unless all names, sizes and dates are those of the shard, which a
stranger does not know.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from pipeline import storage
from pipeline.errors import ConfigError, ShardError
from pipeline.records import Sample
from pipeline.shards import folders, inputs, parquet, photo_shards
from pipeline.storage.listing import TAR_NAMES

LOCAL = "file://"
ADVICE = "; pass --photos with the folder or address of the shards"
PHOTO_ADVICE = "; pass --photos with the folder that the photos are below"
MAX_NAMES = 2 * photo_shards.MOST  # of one shard


class SourceUnusable(ShardError):
    """A shard that no longer holds what its rows were made from.

    Attributes:
        why: without the address, to be set behind a name.
    """

    def __init__(self, url: str, why: str) -> None:
        super().__init__(f"{storage.redact(url)} {why}")
        self.why = why


class Recorded(NamedTuple):
    """What a footer says of its shard."""

    version: str = ""  # of its content, or of its photos alone; "": not known
    names: tuple[str, ...] = ()  # of photos that were inverted where they lie, quoted

    @classmethod
    def of(cls, footer: Mapping[str, Any]) -> Recorded:
        """That of inversions, or of edits, where the version of a tar is not known."""
        is_edited = "edit_directions" in footer.get("identity", {})
        content = "" if is_edited else footer.get("input_identity", "")
        return cls(footer.get("photos_version", content), tuple(footer.get("photos", ())))


class SourcePhotos:
    """Source photos of one shard, asked for in stored order: a tar is read once, as a stream."""

    def __init__(
        self,
        shard: str,
        decode: Callable[[bytes], np.ndarray | None],
        photos: str | None = None,
        version: str = "",
        names: Sequence[str] = (),
    ) -> None:
        """
        Args:
            shard: as the data set names it.
            decode: an image file to [H, W, 3] uint8, or None where it is damaged.
            photos: folder or address that holds the shards, as the user says; None: see :func:`trusted`.
            version: of the shard when it was inverted; "": not known.
            names: of the photos of a shard of photos; see :class:`Recorded`.

        Raises:
            SourceUnusable: the shard is not read.
        """
        self._decode = decode
        self._source: _Stream | _Files
        if photo_shards.is_photos(shard):
            self._url = shard
            self._source = _Files(trusted_photos(shard, photos, version, names), names)
        else:
            self._url = trusted(shard, photos, version)
            self._source = _Stream(inputs.samples(self._url))
        self._index = -1
        self._sample: Sample | None = None
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
        if self._index != row["sample_index"]:
            self._index = row["sample_index"]
            self._sample = found = self._source.sample(self._index, row["key"])
            data = None if found is None else found.image
            self._photo = None if data is None else self._decode(data)
        size = (None, None) if self._photo is None else self._photo.shape[:2]
        is_there = self._sample is not None and self._sample.key == row["key"]
        stated = row.get("height"), row.get("width")
        if not is_there or (None not in stated and size != stated):
            raise SourceUnusable(self._url, "has changed since it was inverted")
        return self._photo


class _Stream:
    """Samples of a shard that is read from its beginning."""

    def __init__(self, samples: Iterator[Sample]) -> None:
        self._samples = samples
        self._n_read = 0

    def sample(self, index: int, key: str) -> Sample | None:
        """One behind the last; None where there is none."""
        found = next(islice(self._samples, max(0, index - self._n_read), None), None)
        self._n_read = index + 1
        return found if found is not None and found.index == index else None


class _Files:
    """Samples of photos that lie below a folder."""

    def __init__(self, root: str, names: Sequence[str]) -> None:
        self._root, self._names = root, names

    def sample(self, index: int, key: str) -> Sample | None:
        """Any of them; its key is that of its row, where that may be one of its name."""
        if not 0 <= index < len(self._names):
            return None
        name = photo_shards.unquoted(self._names[index])
        member = photo_shards.read(os.path.join(self._root, name))
        own = folders.plain_key(name).encode(errors="surrogateescape")
        own_key = own.decode(errors="backslashreplace")
        return Sample(index, key if key.startswith(own_key) else own_key, member.data)


def trusted_photos(shard: str, photos: str | None, version: str, names: Sequence[str]) -> str:
    """The folder that the photos of a shard are read below.

    Args:
        shard: their address in a data set.
        photos: folder of this machine that the user gave. None: that of the address, if the photos there
            have the names, sizes and dates that they had.
        version: of the photos when they were inverted.
        names: their names, quoted, as the data set has them.

    Raises:
        SourceUnusable: there is none, or a name leads out of it or to what is no photo.
        ConfigError: ``photos`` is not a folder of this machine.
    """
    files = [photo_shards.unquoted(name) for name in names]
    if not 0 < len(files) <= MAX_NAMES or not all(map(_is_below, files)):
        raise SourceUnusable(shard, "does not say which photos these were" + PHOTO_ADVICE)
    if photos is not None:
        folder = photos.removeprefix(LOCAL)
        if storage.is_remote(folder) or not os.path.isdir(folder):
            raise ConfigError(
                f"{storage.redact(photos)} is not a folder of this machine, and these rows were made from "
                "photos in a folder; pass it as --photos"
            )
        return folder
    root = photo_shards.root_of(shard)
    if not os.path.isabs(root):
        raise SourceUnusable(shard, "does not name a folder" + PHOTO_ADVICE)
    try:
        same = bool(version) and photo_shards.version_of(root, files) == version
    except (ConfigError, ValueError):
        raise SourceUnusable(shard, "is not on this machine as it was" + PHOTO_ADVICE) from None
    if not same:
        raise SourceUnusable(shard, "has changed since it was inverted" + PHOTO_ADVICE)
    return root


def _is_below(name: str) -> bool:
    """Whether this is a photo's path below a folder."""
    parts = name.split("/")
    return folders.is_photo(name) and not {"", ".", ".."} & set(parts) and "\0" not in name


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
        if "::" in name or not name.endswith((*TAR_NAMES, parquet.ENDING)):
            raise SourceUnusable(shard, "does not have the name of a tar or Parquet file")
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
