"""Shards of every kind: which ones a user names, what tells their contents apart, and their samples.

A shard is a tar, a Parquet file with images, or some photos where they lie. Whoever asks for one asks here.
"""

from __future__ import annotations

import os
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import PurePath

from pipeline import storage
from pipeline.config import RUN_FOLDER
from pipeline.errors import ConfigError
from pipeline.records import Sample
from pipeline.shards import folders, mistaken, parquet, photo_shards, reader
from pipeline.shards.folders import Photos
from pipeline.shards.photo_shards import PhotoShard
from pipeline.storage import listing
from pipeline.storage.filesystems import LOCAL, filesystem
from pipeline.storage.listing import TAR_NAMES
from pipeline.storage.pace import Limits
from pipeline.storage.stream import Meter
from pipeline.storage.urls import HTTP, PIPE, redact

NOT_REMOTE = "photos are read from folders of this machine, or of one that all nodes share"
N_LOOKED_INTO = 100  # of tars, whether they are what they are called


@dataclass
class Inputs:
    """What was named, as shards."""

    versions: dict[str, str | None] = field(default_factory=dict)  # by address; None: to be asked
    n_photos: int = 0  # those that are read where they lie
    n_photo_shards: int = 0  # what they make
    extensions: Counter[str] = field(default_factory=Counter)  # of these photos, in small letters
    skipped: list[str] = field(default_factory=list)  # files of their folders that are no photos
    dangling: list[str] = field(default_factory=list)  # links to nothing, or to what was seen
    unreadable: list[str] = field(default_factory=list)  # folders that nobody may look into


def expand(patterns: Sequence[str]) -> Inputs:
    """The shards that are named: by paths, globs, folders, addresses, and ``@FILE`` lists of these.

    Raises:
        ConfigError: a name of nothing, or of what is no input; says what to do.
    """
    naming = _Naming()
    for pattern in listing.patterns_in(patterns):
        naming.add(pattern)
    return naming.inputs()


def version(url: str, retry_unreachable: bool = False) -> str:
    """What tells one content of a shard from another; see :func:`pipeline.storage.version`.

    Raises:
        ConfigError: there is no such shard, or no way to it.
    """
    if photo_shards.is_photos(url):
        return PhotoShard.of(url).version()
    return storage.version(url, retry_unreachable)


def state(url: str) -> tuple[int, ...]:
    """What every change of a shard on this machine shows in; see :func:`pipeline.storage.state`."""
    return PhotoShard.of(url).state() if photo_shards.is_photos(url) else storage.state(url)


def samples(
    url: str,
    fields: frozenset[str] = frozenset(),
    limits: Limits | None = None,
    meter: Meter | None = None,
) -> Iterator[Sample]:
    """Every sample of a shard, once and in order.

    Args:
        fields: extensions of members beside the image whose bytes are wanted; see :func:`reader.samples`.
        limits: how slow the source of a tar may be; the usual ones if None.
        meter: is told how far a tar was read, or how many of some photos were.

    Raises:
        ShardError: it cannot be read to its end; samples that came before are not to be used.
    """
    if photo_shards.is_photos(url):
        photos = PhotoShard.of(url)
        return _metered(photos.samples(fields), len(photos.files), meter or Meter())
    return (
        parquet.samples(url, fields)
        if parquet.is_parquet(url)
        else reader.samples(url, fields, limits, meter)
    )


def _metered(read: Iterator[Sample], n: int, meter: Meter) -> Iterator[Sample]:
    meter.n_in_all = n
    for sample in read:
        meter.n_read += 1
        yield sample


def footer(url: str, content: str) -> dict[str, object]:
    """What a footer must say of a shard so that its photos are found again.

    Args:
        content: its version.
    """
    if not photo_shards.is_photos(url):
        return {}
    names = [photo_shards.quoted(file.name) for file in PhotoShard.of(url).files]
    return {"photos": names, "photos_version": content.partition(" beside=")[0]}


class _Naming:
    """Takes names one by one; photos among them are shards together."""

    def __init__(self) -> None:
        self._urls: dict[str, str | None] = {}  # of tars and Parquet files
        self._folders: list[Photos] = []
        self._photos: list[str] = []
        self._others: list[str] = []  # files that are no input, unless they are labels of photos

    def add(self, pattern: str) -> None:
        """What one pattern without braces names."""
        if pattern.startswith(LOCAL):
            pattern = filesystem(pattern)[1]
        if storage.is_remote(pattern):
            urls = self._remote(pattern)
            for url in urls:
                if folders.is_photo(url.partition("?")[0]) and not url.startswith(PIPE):
                    raise ConfigError(
                        f"{redact(url)} is a photo; {NOT_REMOTE}, so copy it, or pack photos into tars there"
                    )
            self._add({**urls})
        elif os.path.isdir(pattern):
            self._add_folder(pattern)
        elif os.path.isfile(pattern):
            self._add_file(pattern)
        else:
            self._add_glob(pattern)

    def inputs(self) -> Inputs:
        """All that was named, each once."""
        for path in folders.without_labels(self._others, self._photos):
            raise ConfigError(mistaken.sentence(path))
        found = Inputs(listing.distinct(self._urls))
        shards: list[PhotoShard] = []
        seen: set[str] = set()
        for photos in self._folders:
            new = photo_shards.of_folder(photos)
            shards += new
            if self._photos:
                seen.update(os.path.realpath(path) for shard in new for path in shard.paths)
            for name in ("skipped", "dangling", "unreadable"):
                getattr(found, name).extend(getattr(photos, name))
        named = [path for path in self._photos if os.path.realpath(path) not in seen]
        shards += photo_shards.of_names(folders.named(named)) if named else []
        found.n_photo_shards = len(shards)
        for shard in shards:
            found.extensions.update(file.extension for file in shard.files)
        found.n_photos = found.extensions.total()
        found.versions |= {shard.source: shard.version() for shard in shards}
        return found

    def _add(self, urls: dict[str, str | None]) -> None:
        for url, listed in urls.items():
            self._urls[url] = self._urls.get(url) or listed

    def _add_glob(self, pattern: str) -> None:
        names = listing.globbed(pattern)
        if not names:
            kind = "photo" if folders.is_photo(pattern) else "shard"
            raise ConfigError(
                f"no {kind} matches {pattern}; check the path (relative paths start here)"
            )
        subfolders = [name for name in names if os.path.isdir(name)]
        files = [name for name in names if name not in subfolders]
        for endings in (TAR_NAMES, (parquet.ENDING,)):
            if any(name.endswith(endings) for name in files):
                listing.require_tars(pattern, files, subfolders, endings)
        if subfolders:
            raise ConfigError(
                f"{pattern} also matches folders ({PurePath(subfolders[0]).name}); pass a folder by its "
                "name, which takes its subfolders too"
            )
        for name in files:
            self._add_file(name)

    def _add_file(self, path: str) -> None:
        if not os.path.isfile(path):  # a pipe, say: whoever asks for its version refuses it
            self._add(listing.stated([path]))
        elif folders.is_photo(path):
            self._photos.append(path)
        elif parquet.is_parquet(path):
            parquet.require_images(path)
            self._add(listing.stated([path]))
        elif path.endswith(TAR_NAMES):
            if len(self._urls) < N_LOOKED_INTO and mistaken.is_another(path) and not _is_tar(path):
                raise ConfigError(mistaken.sentence(path))
            self._add(listing.stated([path]))
        elif _is_tar(path):
            self._add(listing.stated([path]))
        else:
            self._others.append(path)

    def _add_folder(self, path: str) -> None:
        names = sorted(os.listdir(path)) if os.access(path, os.R_OK | os.X_OK) else []
        tars = [
            n for n in names if n.endswith(TAR_NAMES) and not os.path.isdir(os.path.join(path, n))
        ]
        if tars:
            _require_no_photos(path, names)
            self._add(listing.stated([os.path.join(path, name) for name in tars]))
            return
        photos = folders.walked(path)
        if os.path.isdir(os.path.join(path, RUN_FOLDER)):
            _without_run(photos)
        tables = [name for name in photos.skipped if parquet.is_parquet(name)]
        files = [os.path.join(path, name) for name in tables if not folders.is_hidden(name)]
        if not photos.files:
            self._add_parquets(path, files, photos)
            return
        if files and _holds_images(files[0]):
            raise ConfigError(
                f"{path} holds photos and Parquet files with images ({PurePath(files[0]).name}); name either "
                f"kind by itself, such as '{path.rstrip('/')}/*.parquet'"
            )
        # A folder within another one is a part of it.
        real = os.path.realpath(path)
        outer = [os.path.realpath(other.root) for other in self._folders]
        if not any(f"{real}/".startswith(f"{o}/") for o in outer):
            inner = [o for o in outer if f"{o}/".startswith(f"{real}/")]
            self._folders = [p for p in self._folders if os.path.realpath(p.root) not in inner]
            self._folders.append(photos)

    def _add_parquets(self, path: str, files: Sequence[str], photos: Photos) -> None:
        if not files:
            deeper = any(name.endswith(TAR_NAMES) for name in photos.skipped)
            raise ConfigError(
                f"no shard matches {path}: the folder holds no tar, no Parquet file and no photo"
                + (
                    f"; its subfolders hold tars: pass '{path.rstrip('/')}/**/*.tar'"
                    if deeper
                    else ""
                )
            )
        for file in files:
            parquet.require_images(file)
        self._add(listing.stated(files))

    def _remote(self, pattern: str) -> dict[str, str | None]:
        if photo_shards.is_photos(pattern):
            raise ConfigError(
                f"{redact(pattern)} is how rows name photos; pass the folder, or the photos, by their paths"
            )
        if pattern.startswith((*HTTP, PIPE)):
            if pattern.startswith(HTTP) and parquet.is_parquet(pattern):
                raise ConfigError(
                    f"{redact(pattern)} is read at many places, which http:// does not allow; download it, "
                    "or pass hf://datasets/... where it is one of Hugging Face"
                )
            return {pattern: None}
        if parquet.is_parquet(pattern):
            return listing.store_matches(pattern, (parquet.ENDING,))
        try:
            return listing.store_matches(pattern)
        except ConfigError as error:
            is_glob = any(sign in pattern for sign in "*?[")
            if is_glob or not str(error).startswith("no shard matches"):
                raise
            with suppress(ConfigError):
                return listing.store_matches(pattern, (parquet.ENDING,), is_deep=True)
            raise ConfigError(
                f"{error}: it holds neither tars nor Parquet files; {NOT_REMOTE}"
            ) from None


def _without_run(photos: Photos) -> None:
    """Leave out what a run wrote into its folder of photos, which it may have as --out, too.

    Raises:
        ConfigError: there are no photos beside it.
    """
    photos.files = [file for file in photos.files if not file.name.startswith(f"{RUN_FOLDER}/")]
    photos.skipped = [name for name in photos.skipped if not name.startswith(f"{RUN_FOLDER}/")]
    if not photos.files:
        raise ConfigError(
            f"{photos.root} is the --out of a run and holds no photos; pass the photos that are to be "
            "inverted (`restyle edit` takes latents)"
        )


def _require_no_photos(path: str, names: Sequence[str]) -> None:
    photos = [name for name in names if folders.is_photo(name) and not name.startswith(".")]
    if photos:
        raise ConfigError(
            f"{path} holds tars and photos ({photos[0]}); pass the tars by '{path.rstrip('/')}/*.tar', and "
            "the photos from a folder of their own, or by their names"
        )


def _holds_images(path: str) -> bool:
    try:
        parquet.require_images(path)
    except ConfigError:
        return False
    return True


def _is_tar(path: str) -> bool:
    with suppress(OSError):  # whoever reads it will say so
        return tarfile.is_tarfile(path)
    return True
