"""One shard -> Samples, in order. Keys are WebDataset's: the name up to the first dot of its basename.

With one difference: a dot before a digit belongs to the key, unless it is the last dot. Cameras name photos
by date (``2023.01.05_12.30.11.jpg``), and to WebDataset a year of them is one sample.
"""

from __future__ import annotations

import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from lzma import LZMAError
from typing import Any, BinaryIO, cast

from pipeline.errors import ShardError
from pipeline.records import IMAGE_EXTENSIONS, Sample, Status
from pipeline.shards.headers import Ending, StrictTarInfo, UnusableTar
from pipeline.storage.pace import Limits
from pipeline.storage.stream import READ_BLOCK, Meter, open_stream
from pipeline.storage.urls import redact, redacted_message

# WebDataset's metadata, and what file managers leave behind: no samples, so no rows. A folder of such a name
# is one of photos like any other.
NOT_SAMPLES = re.compile(r"(?:__[^/]*__|(?:.*/)?(?:\.[^/]*|Thumbs\.db))\Z", re.DOTALL)
# The name up to the dot that ends its key, and what follows.
KEY_AND_EXTENSION = re.compile(r"([^.]*(?:\.[0-9][^.]*(?=\.))*)\.(.*)", re.DOTALL)
N_NAMED = 5  # members in an error
# A tar header may announce any size; a photo is smaller than this.
MAX_IMAGE_BYTES = 1 << 29
# And what describes it (text, label, latent) is smaller than this.
MAX_FIELD_BYTES = 16 << 20
# All files of one sample that are wanted, and all their names.
MAX_SAMPLE_BYTES = 1 << 30
TOO_MUCH = "the files of one sample are above 1 GiB together"
MAX_NAME_BYTES = 16 << 20
# Zeros behind the end marker: writers fill up a block, of some megabytes at most.
MAX_PADDING_BYTES = 1 << 30
_ENTRY_BYTES = 256  # what Python takes for a name besides its letters


@dataclass(frozen=True)
class _Member:
    """One file of a tar; its bytes where they are wanted, or why there are none."""

    data: bytes | None = None
    error: str | None = None


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
        key, members = "", _Members(fields)
        for name, read in _members(stream, url, fields):
            prefix, extension = key_and_extension(name)
            # The same member again is the next sample under the same key, not a lost one.
            if members and (prefix != key or extension in members):
                yield _sample(index, key, members, fields)
                index, members = index + 1, _Members(fields)
            key = prefix
            members.take(name, extension, read)
            if members.n_name_bytes > MAX_NAME_BYTES:
                raise ShardError(
                    f"{redact(url)} has too many members of one key ({key[:80]}); give each photo a name of "
                    "its own, as `restyle pack` does"
                )
        if members:
            yield _sample(index, key, members, fields)


class _Members(dict[str, _Member]):
    """Members of one sample by extension; of any number of images it holds the bytes of one at most."""

    def __init__(self, fields: frozenset[str]) -> None:
        super().__init__()
        self._fields = fields
        self._photo: str | None = None  # the image that may be the sample's
        self._n_plain = self._n_others = 0  # images `.jpg`, images `.mask.png`
        self._n_held = self.n_name_bytes = 0

    def take(self, name: str, extension: str, read: Callable[[], _Member]) -> None:
        """Add the next member, read where its bytes are wanted."""
        self.n_name_bytes += len(name) + _ENTRY_BYTES
        member = read() if self._wants(extension) else _Member()
        self._n_held += 0 if member.data is None else len(member.data)
        self[extension] = member if self._n_held <= MAX_SAMPLE_BYTES else _Member(error=TOO_MUCH)

    def _wants(self, extension: str) -> bool:
        """Whether the bytes of the next member are to be read; lets go of those that it makes useless."""
        if not _is_image(extension):
            return extension in self._fields
        is_plain = "." not in extension
        is_photo = not self._n_plain and (is_plain or not self._n_others)
        if self._photo is not None and (is_plain or not self._n_plain):
            if self._photo not in self._fields:
                self._n_held -= len(self[self._photo].data or b"")
                self[self._photo] = _Member(error=self[self._photo].error)
            self._photo = None
        self._n_plain += is_plain
        self._n_others += not is_plain
        self._photo = extension if is_photo else self._photo
        return is_photo or extension in self._fields


def key_and_extension(name: str) -> tuple[str, str]:
    """The key of a member, and what it is: ``("a/b", "w.npy")`` of ``a/b.W.npy``; in small letters."""
    folder, slash, base = name.rpartition("/")
    found = KEY_AND_EXTENSION.fullmatch(base)
    # No dot: a member of no type, a sample of its own.
    return (name, "") if found is None else (f"{folder}{slash}{found[1]}", found[2].lower())


def _is_image(extension: str) -> bool:
    return extension.rpartition(".")[2] in IMAGE_EXTENSIONS


def _sample(index: int, key: str, members: dict[str, _Member], fields: frozenset[str]) -> Sample:
    # Names are bytes; what is not UTF-8 is escaped, for Parquet holds text.
    key = key.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    status, error, data = _image(members)
    chosen = {ext: members[ext] for ext in fields & members.keys()}
    bad = [f".{ext}: {member.error}" for ext, member in sorted(chosen.items()) if member.error]
    if bad and status == Status.OK:
        status, error, data = Status.FIELD_ERROR, bad[0], None
    data_by_ext = {ext: member.data for ext, member in chosen.items() if member.data is not None}
    return Sample(index, key, data, status, error, data_by_ext)


def _image(members: dict[str, _Member]) -> tuple[Status, str | None, bytes | None]:
    """The one image of a sample, or why there is none."""
    images = [ext for ext in members if _is_image(ext)]
    # `photo.jpg` beside `photo.mask.png`: the plain extension is the photo.
    images = [ext for ext in images if "." not in ext] or images
    if len(images) == 1:
        image = members[images[0]]
        status = Status.OK if image.error is None else Status.MISSING_IMAGE
        return status, image.error, image.data
    names = _named(images or list(members))
    if images:
        error = f"{len(images)} images in one sample ({names}); keep one"
        if len(images) > 2 and all("." in ext for ext in images):
            error += (
                ", or pack them with `restyle pack`: a name's key ends at its first dot, unless a digit "
                "follows, and these share theirs"
            )
        return Status.AMBIGUOUS_IMAGE, error, None
    error = (
        f"no image among its members ({names}); members of one key must follow one another in the tar, "
        "as `restyle pack` and `tar --sort=name` write them"
    )
    return Status.MISSING_IMAGE, error, None


def _named(extensions: list[str]) -> str:
    """Members of a sample for people, the first few."""
    names = ", ".join(
        f".{ext[:40]}" if ext else "no extension" for ext in islice(extensions, N_NAMED)
    )
    if len(extensions) > N_NAMED:
        names += f" and {len(extensions) - N_NAMED} more"
    return names.encode("utf-8", "backslashreplace").decode()


def _members(
    stream: BinaryIO, url: str, fields: frozenset[str]
) -> Iterator[tuple[str, Callable[[], _Member]]]:
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


def _member(tar: tarfile.TarFile, info: StrictTarInfo, fields: frozenset[str]) -> _Member:
    extension = key_and_extension(info.name)[1]
    is_image = _is_image(extension)
    if not (is_image or extension in fields):
        return _Member()  # its name says what it is; its bytes are not wanted
    if not info.isreg():
        return _Member(error="a link or device inside the tar; store the file itself")
    if info.is_sparse:
        return _Member(error="a sparse file inside the tar; write the tar without --sparse")
    if is_image and info.size > MAX_IMAGE_BYTES:
        return _Member(error=f"a file of {info.size / 2**30:.1f} GiB is not a photo")
    if not is_image and info.size > MAX_FIELD_BYTES:
        size, most = (n / 2**20 for n in (info.size, MAX_FIELD_BYTES))
        return _Member(error=f"a field of {size:.1f} MiB is above the limit of {most:.0f} MiB")
    file = tar.extractfile(info)
    assert file is not None
    return _Member(file.read())


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
