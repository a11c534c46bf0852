"""One shard -> Samples, in order. Keys are WebDataset's: the name up to the first dot of its basename."""

from __future__ import annotations

import re
import tarfile
import zlib
from collections.abc import Iterator
from lzma import LZMAError
from typing import BinaryIO

from webdataset.tariterators import base_plus_ext

from pipeline import storage
from pipeline.records import Sample, Status
from pipeline.storage import ShardError, public

# WebDataset's metadata, and what file managers leave behind: no samples, so no rows.
NOT_SAMPLES = re.compile(r"(^|.*/)(__[^/]*__(/.*)?|\.[^/]*|Thumbs\.db)$")
# What `restyle pack` takes and the reader decodes (or reports as a row, where it cannot).
IMAGE_EXTENSIONS = frozenset(
    "jpg jpeg jfif jpe png webp bmp tif tiff gif ppm pgm pnm jp2 avif heic heif svg".split()
)
TAR_BLOCK = 512


def samples(url: str) -> Iterator[Sample]:
    """Every sample of a shard, once. Consecutive members with one key are one sample.

    Raises:
        ShardError: not a tar, or cut short; samples that came before are not to be used.
    """
    with storage.open_stream(url) as stream:
        index = 0
        key, members = "", {}  # type: str, dict[str, bytes]
        for name, data in _members(stream, url):
            prefix, extension = base_plus_ext(name)
            if prefix is None:  # no dot: a member of no type, a sample of its own
                prefix, extension = name, ""
            extension = extension.lower()
            # The same member again is the next sample under the same key, not a lost one.
            if members and (prefix != key or extension in members):
                yield _sample(index, key, members)
                index, members = index + 1, {}
            key = prefix
            members[extension] = data
        if members:
            yield _sample(index, key, members)


def _sample(index: int, key: str, members: dict[str, bytes]) -> Sample:
    images = [ext for ext in members if ext.rpartition(".")[2] in IMAGE_EXTENSIONS]
    # `photo.jpg` beside `photo.mask.png`: the plain extension is the photo.
    images = [ext for ext in images if "." not in ext] or images
    if len(images) == 1:
        return Sample(index, key, members[images[0]])
    found = ", ".join(f".{ext}" if ext else "no extension" for ext in (images or members))
    if images:
        error = f"{len(images)} images in one sample ({found}); keep one"
        return Sample(index, key, None, Status.AMBIGUOUS_IMAGE, error)
    return Sample(index, key, None, Status.MISSING_IMAGE, f"no image among its members ({found})")


def _members(stream: BinaryIO, url: str) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every regular file of a tar."""
    tail = _Tail(stream)
    try:
        with tarfile.open(fileobj=tail, mode="r|", bufsize=storage.READ_BLOCK) as tar:  # type: ignore
            for info in tar:
                if info.isreg() and not NOT_SAMPLES.match(info.name):
                    file = tar.extractfile(info)
                    assert file is not None
                    yield info.name, file.read()
                tar.members = []  # type: ignore[attr-defined]  # else every header stays in memory
    except (tarfile.TarError, EOFError, zlib.error, LZMAError) as error:
        raise ShardError(f"{public(url)} is not a whole tar file: {error}") from None
    except OSError as error:  # gzip.BadGzipFile and its kin
        raise ShardError(f"{public(url)} cannot be read: {error}") from None
    if tail.last.count(0) != TAR_BLOCK:
        # tarfile takes a cut between two members for the end; only this marker tells them apart.
        raise ShardError(f"{public(url)} is cut short: the tar's end marker is missing")


class _Tail:
    """Passes reads through and remembers the last block."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self.last = stream, b""

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self.last = (self.last + data)[-TAR_BLOCK:]
        return data
