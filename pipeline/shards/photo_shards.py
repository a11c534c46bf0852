"""Photos where they lie as shards: about a thousand files are one, with an address, a version and samples.

Of a folder, ``photos:///data/faces/`` and ``photos:///data/faces/?from=b/0007.jpg`` are the shards that begin
with its first photo and with that one; ``photos:///data/a.jpg`` is a photo by itself, and
``photos:///data/?list=DIGEST`` are photos that were named. Which photos these are travels behind a ``#``,
which :func:`pipeline.storage.redact` takes off: no worker looks through the folder again.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import stat
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote

from pipeline.errors import ConfigError, ShardError
from pipeline.records import Sample
from pipeline.shards.folders import PhotoFile, Photos
from pipeline.shards.members import Member, sample_of, too_large
from pipeline.storage.urls import PHOTOS

# A shard of a folder ends before a photo whose name's hash says so, so that photos that are added move few
# ends: one of so many names does. No shard but the last has fewer photos than the first number, none has more
# than the second.
ONE_IN = LEAST = 500
MOST = 2000
# What means something in an address, or cannot stand in one; all else is as the folder has it.
_QUOTED = re.compile("[%?#&'\"\\s\0-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True)
class PhotoShard:
    """Some photos below a folder."""

    root: str  # absolute
    address: str  # as rows name it
    files: tuple[PhotoFile, ...]

    @property
    def source(self) -> str:
        """The address with all that is needed to read the photos."""
        facts = [[file.name, file.key, *file.labels] for file in self.files]
        packed = zlib.compress(json.dumps(facts, separators=(",", ":")).encode())
        return f"{self.address}#{base64.urlsafe_b64encode(packed).decode()}"

    @classmethod
    def of(cls, source: str) -> PhotoShard:
        """The shard of a :attr:`source`, which this program wrote."""
        address, _, packed = source.partition("#")
        facts = json.loads(zlib.decompress(base64.urlsafe_b64decode(packed)))
        files = tuple(PhotoFile(name, key, tuple(labels)) for name, key, *labels in facts)
        return cls(root_of(address), address, files)

    @property
    def paths(self) -> list[str]:
        """Of its photos, absolute."""
        return [os.path.join(self.root, file.name) for file in self.files]

    def version(self) -> str:
        """What tells one content of the shard from another: names, sizes and dates of its files, and keys.

        Raises:
            ConfigError: a file is gone, or cannot be looked at.
        """
        digest = hashlib.sha256()
        for file in self.files:
            labels = [_facts(self.root, name) for name in file.files[1:]]
            digest.update(json.dumps([file.key, labels]).encode())
        photos = version_of(self.root, [file.name for file in self.files])
        return f"{photos} beside={digest.hexdigest()[:16]}"

    def state(self) -> tuple[int, ...]:
        """What every change of its files shows in, also one whose date was set back."""
        digest = hashlib.sha256()
        for name in (name for file in self.files for name in file.files):
            try:
                facts = os.stat(os.path.join(self.root, name))
                now = facts.st_dev, facts.st_ino, facts.st_size, facts.st_ctime_ns
            except OSError:
                now = 0, 0, 0, 0
            digest.update(json.dumps(now).encode())
        return (int.from_bytes(digest.digest()[:16]),)

    def samples(self, fields: frozenset[str]) -> Iterator[Sample]:
        """Its photos in order, as a tar that `restyle pack` made of them would give them.

        Args:
            fields: labels whose bytes are wanted.

        Raises:
            ShardError: a file is gone, or its disk fails.
        """
        for index, file in enumerate(self.files):
            wanted = [file.name, *(n for n in file.files[1:] if n.rpartition(".")[2] in fields)]
            members = {
                name.rpartition(".")[2].lower(): read(os.path.join(self.root, name))
                for name in wanted
            }
            yield sample_of(index, file.key, members, fields)


def of_folder(photos: Photos) -> list[PhotoShard]:
    """The shards of a folder that was walked."""
    root = os.path.abspath(photos.root)
    start = f"{PHOTOS}{quoted(root).rstrip('/')}/"
    shards: list[PhotoShard] = []
    for files in _chunks(photos.files):
        address = f"{start}?from={quoted(files[0].name)}" if shards else start
        shards.append(PhotoShard(root, address, tuple(files)))
    return shards


def of_names(photos: Photos) -> list[PhotoShard]:
    """The shards of photos that were named; their addresses say which photos they are."""
    start = f"{PHOTOS}{quoted(photos.root).rstrip('/')}/"
    shards = []
    for files in _chunks(photos.files):
        if len(files) == 1:
            address = start + quoted(files[0].name)
        else:
            names = json.dumps([file.name for file in files]).encode()
            address = f"{start}?list={hashlib.sha256(names).hexdigest()[:16]}"
        shards.append(PhotoShard(photos.root, address, tuple(files)))
    return shards


def is_photos(url: str) -> bool:
    """Whether this is the address of photos."""
    return url.startswith(PHOTOS)


def root_of(address: str) -> str:
    """The folder that the photos of an address lie below."""
    path = address.removeprefix(PHOTOS).partition("#")[0].partition("?")[0]
    return unquote(path.rpartition("/")[0], errors="surrogateescape") or "/"


def quoted(name: str) -> str:
    """A path as it stands in an address, and in a footer."""
    return _QUOTED.sub(lambda found: quote(os.fsencode(found[0])), name)


def unquoted(text: str) -> str:
    """The path that :func:`quoted` was given."""
    return unquote(text, errors="surrogateescape")


def version_of(root: str, names: Iterable[str]) -> str:
    """The part of a version that its photos make, by their names, sizes and dates; nothing is opened.

    Raises:
        ConfigError: one is gone, or cannot be looked at.
    """
    digest, n_bytes, n_photos = hashlib.sha256(), 0, 0
    for name in names:
        facts = _facts(root, name)
        digest.update(json.dumps(facts).encode())
        n_bytes, n_photos = n_bytes + facts[1], n_photos + 1
    return f"size={n_bytes} photos={n_photos} files={digest.hexdigest()[:32]}"


def _facts(root: str, name: str) -> tuple[str, int, int]:
    path = os.path.join(root, name)
    try:
        facts = os.stat(path)
    except OSError as error:
        shown = path.encode(errors="backslashreplace").decode()
        raise ConfigError(
            f"{shown} cannot be looked at ({error.strerror}); run the same command again if it was taken "
            "away meanwhile, and keep photos in a folder that every node has"
        ) from None
    return name, facts.st_size, facts.st_mtime_ns


def _chunks(files: Sequence[PhotoFile]) -> Iterator[list[PhotoFile]]:
    chunk: list[PhotoFile] = []
    for file in files:
        if len(chunk) == MOST or (len(chunk) >= LEAST and _begins(file.name)):
            yield chunk
            chunk = []
        chunk.append(file)
    if chunk:
        yield chunk


def _begins(name: str) -> bool:
    digest = hashlib.sha256(os.fsencode(name)).digest()
    return int.from_bytes(digest[:8]) % ONE_IN == 0


def read(path: str) -> Member:
    """A file's bytes. That nobody may read it is a fact about it; all else may pass.

    Raises:
        ShardError: it is gone, or its disk fails.
    """
    try:
        facts = os.stat(path)
        if not stat.S_ISREG(facts.st_mode):
            return Member(error="not a file any more; put the photo itself there")
        if (error := too_large(path.rpartition(".")[2].lower(), facts.st_size)) is not None:
            return Member(error=error)
        with open(path, "rb") as file:
            return Member(file.read())
    except PermissionError:
        return Member(error="the file cannot be read by this user (permission denied)")
    except OSError as error:
        shown = path.encode(errors="backslashreplace").decode()
        raise ShardError(f"{shown} cannot be read ({error.strerror})") from None
