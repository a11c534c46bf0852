"""One tar -> Samples, in order, strictly: what it lacks or holds too much of is an error, never a gap."""

from __future__ import annotations

import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from lzma import LZMAError
from typing import Any, BinaryIO, cast

from pipeline.errors import ShardError
from pipeline.records import Sample
from pipeline.shards.headers import Ending, StrictTarInfo, UnusableTar
from pipeline.shards.members import (
    Member,
    Members,
    is_image,
    key_and_extension,
    sample_of,
    too_large,
)
from pipeline.storage.pace import Limits
from pipeline.storage.stream import READ_BLOCK, Meter, open_stream
from pipeline.storage.urls import redact, redacted_message

# WebDataset's metadata, and what file managers leave behind: no samples, so no rows. A folder of such a name
# is one of photos like any other.
NOT_SAMPLES = re.compile(r"(?:__[^/]*__|(?:.*/)?(?:\.[^/]*|Thumbs\.db))\Z", re.DOTALL)
MAX_NAME_BYTES = 16 << 20
# Zeros behind the end marker: writers fill up a block, of some megabytes at most.
MAX_PADDING_BYTES = 1 << 30


def samples(
    url: str,
    fields: frozenset[str] = frozenset(),
    limits: Limits | None = None,
    meter: Meter | None = None,
) -> Iterator[Sample]:
    """Every sample of a shard, once. Consecutive members with one key are one sample.

    Args:
        fields: extensions, lower case and without the first dot ("json", "txt", "w.npy"), of members
            whose bytes are wanted in ``Sample.fields``; a sample may lack them. One above
            ``MAX_FIELD_BYTES`` makes the sample a failure with status ``field_error``.
        limits: how slow its source may be; the usual ones if None.
        meter: is told how far it was read.

    Raises:
        ShardError: not a tar, damaged or cut short; samples that came before are not to be used.
    """
    with open_stream(url, limits, meter) as stream, _as_shard_error(url):
        index = 0
        key, members = "", Members(fields)
        for name, read in _members(stream, url, fields):
            prefix, extension = key_and_extension(name)
            # The same member again is the next sample under the same key, not a lost one.
            if members and (prefix != key or extension in members):
                yield sample_of(index, key, members, fields)
                index, members = index + 1, Members(fields)
            key = prefix
            members.take(name, extension, read)
            if members.n_name_bytes > MAX_NAME_BYTES:
                raise ShardError(
                    f"{redact(url)} has too many members of one key ({key[:80]}); give each photo a name of "
                    "its own, as `restyle pack` does"
                )
        if members:
            yield sample_of(index, key, members, fields)


def _members(
    stream: BinaryIO, url: str, fields: frozenset[str]
) -> Iterator[tuple[str, Callable[[], Member]]]:
    """Name of every file of a tar, and what reads an image or what else is asked for, before the next."""
    with tarfile.open(
        fileobj=cast(Any, Ending(stream)), mode="r|", bufsize=READ_BLOCK, tarinfo=StrictTarInfo
    ) as tar:
        for info in cast(Iterator[StrictTarInfo], tar):
            if not (info.isdir() or NOT_SAMPLES.match(info.name)):
                yield info.name, partial(_member, tar, info, fields)
            tar.members = []  # type: ignore[attr-defined]  # else every header stays in memory
        _require_end(tar, url)


@contextmanager
def _as_shard_error(url: str) -> Iterator[None]:
    """What goes wrong with a tar as one sentence."""
    try:
        yield
    except UnusableTar as error:
        raise ShardError(f"{redact(url)} cannot be used: it holds {error}") from None
    except (tarfile.TarError, EOFError, zlib.error, LZMAError) as error:
        raise ShardError(
            f"{redact(url)} is not a whole tar file: {redacted_message(error, url)}"
        ) from None
    except OSError as error:  # gzip.BadGzipFile and its kin
        raise ShardError(f"{redact(url)} cannot be read: {redacted_message(error, url)}") from None


def _member(tar: tarfile.TarFile, info: StrictTarInfo, fields: frozenset[str]) -> Member:
    extension = key_and_extension(info.name)[1]
    if not (is_image(extension) or extension in fields):
        return Member()  # its name says what it is; its bytes are not wanted
    if not info.isreg():
        return Member(error="a link or device inside the tar; store the file itself")
    if info.is_sparse:
        return Member(error="a sparse file inside the tar; write the tar without --sparse")
    if (error := too_large(extension, info.size)) is not None:
        return Member(error=error)
    file = tar.extractfile(info)
    assert file is not None
    return Member(file.read())


def _require_end(tar: tarfile.TarFile, url: str) -> None:
    """Refuse what follows the end marker: a second tar, whose samples would be lost."""
    assert tar.fileobj is not None
    n_bytes = 0
    while block := tar.fileobj.read(READ_BLOCK):
        n_bytes += len(block)
        if block.count(0) != len(block):
            raise ShardError(
                f"{redact(url)} continues after the tar's end marker; were two tars joined?"
            )
        if n_bytes > MAX_PADDING_BYTES:  # keeps one from reading on for ever
            raise ShardError(
                f"{redact(url)} goes on with zeros for more than {MAX_PADDING_BYTES >> 20} MiB after the "
                "tar's end marker; write the tar again"
            )
