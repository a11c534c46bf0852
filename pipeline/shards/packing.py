"""A folder tree of photos -> WebDataset shards, with keys that the reader takes apart as meant."""

from __future__ import annotations

import re
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import webdataset

from pipeline.errors import ConfigError
from pipeline.records import IMAGE_EXTENSIONS
from pipeline.shards import folders
from pipeline.shards.folders import PhotoFile, extension
from pipeline.shards.headers import StrictTarInfo
from pipeline.storage.urls import is_remote, redact

NUMBER = re.compile(r"%0?\d{0,2}d")  # in a pattern


@dataclass
class Packed:
    """What :func:`pack` did."""

    shards: list[str] = field(default_factory=list)
    n_images: int = 0
    extensions: Counter[str] = field(default_factory=Counter)  # of the images, in small letters
    renamed: list[tuple[str, str]] = field(default_factory=list)  # (path, key)
    skipped: list[str] = field(default_factory=list)  # files that are no images
    dangling: list[str] = field(
        default_factory=list
    )  # links that point nowhere, or to what was seen
    unreadable: list[str] = field(default_factory=list)  # folders that nobody may look into
    removed: list[str] = field(default_factory=list)  # shards of an earlier packing
    clips: list[str] = field(default_factory=list)  # names of those whose frames these are
    foreign: list[str] = field(
        default_factory=list
    )  # shards of the pattern that something else wrote


def pack(folder: str, pattern: str, samples_per_shard: int) -> Packed:
    """Write the images below ``folder`` to shards, with the .json, .txt and .cls of the same name.

    Links are followed. Shards that an earlier packing wrote behind the last one are removed: photos that
    were withdrawn since would be in them.

    Args:
        pattern: path with one %d, such as ``shards/%06d.tar``.

    Raises:
        ConfigError: no image in the folder, or a pattern that cannot name shards.
    """
    found = folders.walked(folder)
    packed = Packed(
        n_images=len(found.files),
        extensions=Counter(photo.extension for photo in found.files),
        renamed=[(p.name, p.key) for p in found.files if p.key != p.name.rpartition(".")[0]],
        skipped=found.skipped,
        dangling=found.dangling,
        unreadable=found.unreadable,
    )
    images = found.files
    if not images:
        raise ConfigError(f"{folder} holds no image ({', '.join(sorted(IMAGE_EXTENSIONS))})")
    for first in range(0, len(images), samples_per_shard):
        shard = shard_name(pattern, first // samples_per_shard, len(images) > samples_per_shard)
        _write(shard, folder, images[first : first + samples_per_shard])
        packed.shards.append(str(shard))
    remove_later(pattern, len(packed.shards), packed)
    return packed


def remove_later(pattern: str, n_shards: int, packed: Packed) -> None:
    """Delete the shards behind the last one that an earlier packing left."""
    for shard in _later(pattern, n_shards) if _has_number(pattern) else ():
        if _is_packed(shard):
            shard.unlink()
            packed.removed.append(str(shard))
        else:
            packed.foreign.append(str(shard))


def _later(pattern: str, n_shards: int) -> list[Path]:
    """The files of a pattern behind its first so many, also beyond a number that is missing."""
    found: dict[int, Path] = {}
    index = n_shards
    while (shard := shard_name(pattern, index, True)).is_file():
        found[index] = shard
        index += 1
    for path in shard.parent.iterdir() if shard.parent.is_dir() else ():
        for number in map(int, re.findall(r"[0-9]{1,18}", path.name)):
            is_named = number >= n_shards and shard_name(pattern, number, True) == path
            if is_named and path.is_file():
                found[number] = path
    return [found[number] for number in sorted(found)]


def _is_packed(shard: Path) -> bool:
    """Whether :func:`pack` wrote a tar: nothing else gives members no time and webdataset's owner."""
    try:
        with tarfile.open(shard, tarinfo=StrictTarInfo) as tar:
            first = tar.next()
    except (OSError, tarfile.TarError):
        return False
    return first is not None and first.mtime == 0 and first.uname == "bigdata"


def _has_number(pattern: str) -> bool:
    return NUMBER.search(pattern.replace("%%", "")) is not None


def shard_name(pattern: str, index: int, several: bool) -> Path:
    """The path of one shard; ConfigError for a pattern that cannot name ``several``, or no tar."""
    if is_remote(pattern):
        raise ConfigError(
            f"shards are written to this machine, not to {redact(pattern)}; copy them there afterwards"
        )
    rest, n_numbers = NUMBER.subn("", pattern.replace("%%", ""))
    if "%" in rest or n_numbers > 1 or (several and not n_numbers):
        raise ConfigError(f"the pattern {pattern} must hold one number, such as shards/%06d.tar")
    name = pattern % ((index,) * n_numbers)
    if not name.endswith(".tar"):
        raise ConfigError(f"the pattern {pattern} must end in .tar")
    return Path(name)


@contextmanager
def written(shard: Path) -> Iterator[webdataset.TarWriter]:
    """A tar to be written, which appears whole or not at all; the same samples give the same bytes.

    Raises:
        OSError: it cannot be written.
    """
    # Not by generators.files.atomic, which comes with torch: packing starts at once.
    part = shard.with_name(f".{shard.name}.part")
    try:
        shard.parent.mkdir(parents=True, exist_ok=True)
        with (
            part.open("wb") as file,
            webdataset.TarWriter(file, encoder=False, mtime=0.0) as tar,
        ):
            yield tar
        part.replace(shard)
    finally:
        with suppress(OSError):  # most often it was renamed
            part.unlink()


def _write(shard: Path, root: str, images: Sequence[PhotoFile]) -> None:
    path = shard
    try:
        with written(shard) as tar:
            for photo in images:
                sample: dict[str, str | bytes] = {"__key__": photo.key}
                for name in photo.files:
                    path = Path(root, name)
                    sample[extension(name)] = path.read_bytes()
                tar.write(sample)
    except OSError as error:
        raise ConfigError(f"cannot pack {path} into {shard}: {error}") from None
