"""One shard -> Samples, in order. Keys are WebDataset's: the name up to the first dot of its basename."""

from __future__ import annotations

import re
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from lzma import LZMAError
from typing import BinaryIO

from webdataset.tariterators import base_plus_ext

from pipeline import streams
from pipeline.records import Sample, Status
from pipeline.storage import ShardError, public

# WebDataset's metadata, and what file managers leave behind: no samples, so no rows.
NOT_SAMPLES = re.compile(r"__[^/]*__(/|$)|(.*/)?(\.[^/]*|Thumbs\.db)$")
# What `restyle pack` takes and the reader decodes (or reports as a row, where it cannot).
IMAGE_EXTENSIONS = frozenset(
    "jpg jpeg jfif jpe png webp bmp tif tiff gif ppm pgm pnm jp2 avif heic heif svg".split()
)
# A tar header may announce any size; a photo is smaller than this.
MAX_IMAGE_BYTES = 1 << 29


@dataclass(frozen=True)
class _Member:
    """One file of a tar; the bytes of an image, or why there are none."""

    data: bytes | None = None
    error: str | None = None


class _StrictTarInfo(tarfile.TarInfo):
    """Takes nothing but the end marker for the end of a tar.

    tarfile itself ends without a word at a damaged header and at a stream that is cut between two members.
    """

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> _StrictTarInfo:
        try:
            return super().fromtarfile(tar)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"{error} at byte {tar.offset}") from None


def samples(url: str) -> Iterator[Sample]:
    """Every sample of a shard, once. Consecutive members with one key are one sample.

    Raises:
        ShardError: not a tar, damaged or cut short; samples that came before are not to be used.
    """
    with streams.open_stream(url) as stream:
        index = 0
        key, members = "", {}  # type: str, dict[str, _Member]
        for name, member in _members(stream, url):
            prefix, extension = _key_and_extension(name)
            # The same member again is the next sample under the same key, not a lost one.
            if members and (prefix != key or extension in members):
                yield _sample(index, key, members)
                index, members = index + 1, {}
            key = prefix
            members[extension] = member
        if members:
            yield _sample(index, key, members)


def _key_and_extension(name: str) -> tuple[str, str]:
    prefix, extension = base_plus_ext(name)
    # No dot: a member of no type, a sample of its own.
    return (name, "") if prefix is None else (prefix, extension.lower())


def _is_image(extension: str) -> bool:
    return extension.rpartition(".")[2] in IMAGE_EXTENSIONS


def _sample(index: int, key: str, members: dict[str, _Member]) -> Sample:
    # Names are bytes; what is not UTF-8 is escaped, for Parquet holds text.
    key = key.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    images = [ext for ext in members if _is_image(ext)]
    # `photo.jpg` beside `photo.mask.png`: the plain extension is the photo.
    images = [ext for ext in images if "." not in ext] or images
    if len(images) == 1:
        image = members[images[0]]
        status = Status.OK if image.error is None else Status.MISSING_IMAGE
        return Sample(index, key, image.data, status, image.error)
    found = ", ".join(f".{ext}" if ext else "no extension" for ext in (images or members))
    found = found.encode("utf-8", "backslashreplace").decode()
    if images:
        error = f"{len(images)} images in one sample ({found}); keep one"
        return Sample(index, key, None, Status.AMBIGUOUS_IMAGE, error)
    return Sample(index, key, None, Status.MISSING_IMAGE, f"no image among its members ({found})")


def _members(stream: BinaryIO, url: str) -> Iterator[tuple[str, _Member]]:
    """Name and, for an image, bytes of every file of a tar."""
    try:
        with tarfile.open(
            fileobj=stream, mode="r|", bufsize=streams.READ_BLOCK, tarinfo=_StrictTarInfo
        ) as tar:
            for info in tar:
                if not (info.isdir() or NOT_SAMPLES.match(info.name)):
                    yield info.name, _member(tar, info)
                tar.members = []  # type: ignore[attr-defined]  # else every header stays in memory
            _require_end(tar, url)
    except (tarfile.TarError, EOFError, zlib.error, LZMAError) as error:
        raise ShardError(f"{public(url)} is not a whole tar file: {error}") from None
    except OSError as error:  # gzip.BadGzipFile and its kin
        raise ShardError(f"{public(url)} cannot be read: {error}") from None


def _member(tar: tarfile.TarFile, info: tarfile.TarInfo) -> _Member:
    if not _is_image(_key_and_extension(info.name)[1]):
        return _Member()  # its name says what it is; its bytes are not wanted
    if not info.isreg():
        return _Member(error="a link or device inside the tar; store the file itself")
    if info.size > MAX_IMAGE_BYTES:
        return _Member(error=f"a file of {info.size / 2**30:.1f} GiB is no photo")
    file = tar.extractfile(info)
    assert file is not None
    return _Member(file.read())


def _require_end(tar: tarfile.TarFile, url: str) -> None:
    """Refuse what follows the end marker: a second tar, whose samples would be lost."""
    assert tar.fileobj is not None
    while block := tar.fileobj.read(streams.READ_BLOCK):
        if block.count(0) != len(block):
            raise ShardError(
                f"{public(url)} goes on after the tar's end marker; are two tars joined in it?"
            )
