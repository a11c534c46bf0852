"""The photos of a folder, or those that are named: in which order, under which keys, with which labels.

`restyle pack` writes them into tars, and `restyle invert` reads them where they lie: both by this rule.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from pipeline.config import LABEL_MEMBERS
from pipeline.errors import ConfigError
from pipeline.records import IMAGE_EXTENSIONS


@dataclass(frozen=True)
class PhotoFile:
    """A photo below a folder."""

    name: str  # its path below the folder
    key: str
    labels: tuple[str, ...] = ()  # extensions of what lies beside it: "json" for a.json of a.jpg

    @property
    def extension(self) -> str:
        """In small letters, without the dot."""
        return extension(self.name)

    @property
    def files(self) -> list[str]:
        """The photo and its labels."""
        stem = self.name.rpartition(".")[0]
        return [self.name, *(f"{stem}.{label}" for label in self.labels)]


@dataclass
class Photos:
    """What was found below a folder."""

    root: str  # as it was given
    files: list[PhotoFile] = field(default_factory=list)  # folder by folder, by their names
    skipped: list[str] = field(default_factory=list)  # files that are no photos, or hidden
    dangling: list[str] = field(default_factory=list)  # links to nothing, or to what was seen
    unreadable: list[str] = field(default_factory=list)  # folders that nobody may look into


def walked(root: str) -> Photos:
    """Every photo below a folder, once: links that lead out of it are followed.

    Raises:
        ConfigError: the folder cannot be listed.
    """
    photos = Photos(root)
    names = sorted(_files(photos), key=lambda name: name.split("/"))
    if "" in photos.unreadable:
        raise ConfigError(f"cannot look into {root}; check that it is there, and its permissions")
    found = set(names)
    taken: set[str] = set()
    labels = {label for name in names if is_photo(name) for label in _beside(name, found)}
    for name in names:
        if name in labels:
            continue
        if is_hidden(name) or not is_photo(name):
            photos.skipped.append(name)
            continue
        photos.files.append(_photo(name, taken, found))
    return photos


def named(paths: Sequence[str]) -> Photos:
    """Photos by their paths, each once, below the deepest folder that holds them all.

    Args:
        paths: of one photo at least.
    """
    first: dict[str, str] = {}
    for path in paths:
        whole = os.path.abspath(path)
        first.setdefault(os.path.realpath(whole), whole)
    root = os.path.commonpath([os.path.dirname(path) for path in first.values()])
    names = sorted(
        (os.path.relpath(path, root) for path in first.values()), key=lambda name: name.split("/")
    )
    taken: set[str] = set()
    photos = Photos(root)
    for name in names:
        there = {n for n in _possible_labels(name) if os.path.isfile(os.path.join(root, n))}
        photos.files.append(_photo(name, taken, there))
    return photos


def extension(name: str) -> str:
    """Of a file, in small letters and without the dot; "" where it has none."""
    stem, _, found = name.rpartition("/")[2].rpartition(".")
    return found.lower() if stem else ""


def is_photo(name: str) -> bool:
    """Whether this is the name of a picture."""
    return extension(name) in IMAGE_EXTENSIONS


def is_hidden(name: str) -> bool:
    """Whether a file, or a folder that it lies in, has a name that begins with a dot."""
    return any(part.startswith(".") for part in name.split("/"))


def without_labels(names: Iterable[str], photos: Iterable[str]) -> list[str]:
    """Those of the files that do not lie beside one of the photos under its name."""
    labels = {label for photo in photos for label in _possible_labels(photo)}
    return [name for name in names if name not in labels]


def plain_key(name: str) -> str:
    """The path without its extension; a key ends at the first dot of the name, so others go."""
    folder, slash, base = name.rpartition("/")
    return f"{folder}{slash}{base.rpartition('.')[0].replace('.', '_')}"


def _photo(name: str, taken: set[str], there: set[str]) -> PhotoFile:
    """A photo with a key that none before it has; added to those taken."""
    key = plain_key(name)
    if key in taken:
        key = f"{key}_{extension(name)}"  # a.jpg beside a.png
        n = 2
        while key in taken:
            key, n = f"{key}_{n}", n + 1
    taken.add(key)
    labels = tuple(label.rpartition(".")[2] for label in _beside(name, there))
    return PhotoFile(name, key, labels)


def _possible_labels(name: str) -> list[str]:
    stem = name.rpartition(".")[0]
    return [f"{stem}.{label}" for label in LABEL_MEMBERS]


def _beside(name: str, there: set[str]) -> list[str]:
    return [label for label in _possible_labels(name) if label in there]


def _files(photos: Photos) -> Iterator[str]:
    """Paths below the folder of all its files; what cannot be one is noted."""
    root = photos.root
    top, seen = os.path.realpath(root), set[str]()
    waiting = [""]
    while waiting:
        below = waiting.pop()
        folder = os.path.join(root, below)
        real = os.path.realpath(folder)
        leads_inside = os.path.islink(folder) and f"{real}/".startswith(f"{top}/")
        if real in seen or (leads_inside and below):
            photos.dangling.append(below)
            continue
        seen.add(real)
        try:
            with os.scandir(folder) as entries:
                found = list(entries)
        except OSError:
            photos.unreadable.append(below)
            continue
        prefix = f"{below}/" if below else ""
        folders = []
        for entry in found:
            if _is(entry.is_dir):
                folders.append(prefix + entry.name)
            elif _is(entry.is_file):
                yield prefix + entry.name
            elif entry.is_symlink():
                photos.dangling.append(prefix + entry.name)
        waiting += sorted(folders, reverse=True)


def _is(asked: Callable[[], bool]) -> bool:
    """An answer of a folder's entry; False also for what nobody may look at."""
    try:
        return asked()
    except OSError:
        return False
