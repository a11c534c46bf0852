"""Shards by their addresses: which there are, and what tells one content of an address from another."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
import tarfile
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path, PurePath
from typing import Any, TypeVar
from urllib.error import HTTPError
from urllib.parse import urlsplit

import braceexpand
from pyarrow import fs as pafs

from pipeline.errors import ConfigError, ShardError
from pipeline.records import IMAGE_EXTENSIONS
from pipeline.storage import lists
from pipeline.storage.filesystems import LOCAL, config_error, filesystem, require_text
from pipeline.storage.pace import Limits, Pace
from pipeline.storage.retry import RETRYABLE_STATUS, Retry
from pipeline.storage.urls import HTTP, PIPE, is_remote, redact

TAR_NAMES = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")
HTTP_TIMEOUT_S = 60
# From so many shards named in one folder of a store on, one listing is cheaper than asking for each.
N_WORTH_LISTING = 64
N_LOOKED_AT = 10_000  # files of a folder without shards
# What fsspec's packages say of a file's content, the surest first.
FSSPEC_FIELDS = ("ETag", "etag", "blob_id", "md5", "checksum", "generation", "LastModified",
    "last_modified", "mtime", "updated", "created")  # fmt: skip


Answer = TypeVar("Answer")


def expand(patterns: Sequence[str]) -> dict[str, str | None]:
    """Brace expressions, globs, directories and ``@FILE`` lists of them -> shard URLs, in order, each once.

    What exists under a name is taken as it is, whatever stands in the name. A file by two names (a link,
    ``//``) is one, by the first of them.

    Returns each URL with its version where a listing told it, else with None.

    Raises:
        ConfigError: a pattern that matches nothing, or tars and other files.
    """
    urls: dict[str, str | None] = {}
    for pattern in patterns_in(patterns):
        urls.update({url: urls.get(url) or listed for url, listed in _matches(pattern).items()})
    return distinct(urls)


def patterns_in(patterns: Sequence[str]) -> Iterator[str]:
    """What patterns come to without ``@FILE`` and braces: addresses, folders and globs."""
    for pattern in lists.flattened(patterns):
        yield from _without_braces(pattern)


def distinct(urls: Mapping[str, str | None]) -> dict[str, str | None]:
    """Shards without those that are one by another name, with versions where one listing tells many.

    Raises:
        ConfigError: a name that is not UTF-8.
    """
    for url in urls:
        require_text(url)
    first: dict[str, str] = {}
    for url, same in zip(urls, real_paths(urls), strict=True):
        first.setdefault(same, url)
    return _with_listed({url: urls[url] for url in first.values()})


def real_paths(urls: Iterable[str]) -> Iterator[str]:
    """What stays the same of an address under any name of it: of local ones the path without links."""
    folders: dict[str, str] = {}  # a hundred thousand shards lie in few
    for url in urls:
        if is_remote(url) or "\0" in url:  # no file can have such a name, but a record may say it
            yield url
            continue
        folder, _, name = url.rpartition("/")
        if folder not in folders:
            folders[folder] = os.path.realpath(folder or "/")
        path = f"{folders[folder]}/{name}"
        yield os.path.realpath(path) if os.path.islink(path) else path


def _without_braces(pattern: str) -> list[str]:
    """A pattern for each word of its brace expressions; braces of what exists are part of its name."""
    if "{" not in pattern or pattern.startswith(PIPE) or os.path.exists(pattern):
        return [pattern]
    if not is_remote(pattern) and glob.has_magic(pattern) and globbed(pattern):
        return [pattern]
    folder = _folder_as_is(pattern)
    try:
        return [folder + rest for rest in braceexpand.braceexpand(pattern[len(folder) :])]
    except braceexpand.UnbalancedBracesError:  # type: ignore[attr-defined]
        raise ConfigError(f"the braces of {redact(pattern)} do not match") from None


def _folder_as_is(pattern: str) -> str:
    """The longest beginning of a pattern that is a folder's name as it stands, with its slash."""
    end = len(pattern)
    while (end := pattern.rfind("/", 0, end)) > 0:
        if os.path.isdir(pattern[:end]):
            return pattern[: end + 1]
    return ""


def globbed(pattern: str) -> list[str]:
    """Local files and folders that a glob names, sorted; its folder may be named ``photos [2023]``."""
    folder = _folder_as_is(pattern)
    return sorted(glob.glob(glob.escape(folder) + pattern[len(folder) :], recursive=True))


def _matches(pattern: str) -> dict[str, str | None]:
    if pattern.startswith((*HTTP, PIPE)):
        return {pattern: None}
    if pattern.startswith(LOCAL):
        pattern = filesystem(pattern)[1]
    if is_remote(pattern):
        return store_matches(pattern)
    if os.path.isfile(pattern):  # also one with a * in its name
        _require_tar_inside([pattern])
        return stated([pattern])
    path = Path(pattern)
    if os.path.isdir(path):  # False for a name that no file can have
        names = sorted(
            str(p) for p in path.iterdir() if p.name.endswith(TAR_NAMES) and not p.is_dir()
        )
        if not names:
            raise ConfigError(_no_tars(path))
    else:
        names = globbed(pattern)
        folders = [name for name in names if os.path.isdir(name)]
        require_tars(pattern, [name for name in names if name not in folders], folders)
        _require_tar_inside(names)
    if not names:
        raise ConfigError(f"no shard matches {pattern}; check the path (relative paths start here)")
    return stated(names)


def require_tars(
    pattern: str,
    names: Sequence[str],
    folders: Sequence[str] = (),
    endings: tuple[str, ...] = TAR_NAMES,
) -> None:
    """Refuse a glob that is too wide: shards may have any name, but not some of them.

    Raises:
        ConfigError: some of the names have one of the endings, and some have none or are folders.
    """
    others = [name for name in names if not name.endswith(endings)]
    others = [*folders, *others] if folders or len(others) < len(names) else []
    if others:
        some = ", ".join(PurePath(name).name for name in others[:3])
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        what = "a tar" if endings is TAR_NAMES else "such a file"
        raise ConfigError(
            f"{redact(pattern)} also matches what is not {what} ({some}{more}); write the pattern such that "
            f"it names the shards alone, for example with *{endings[0]} at its end"
        )


def _require_tar_inside(names: Sequence[str]) -> None:
    """Refuse files that neither are named like a tar nor begin as one: the shell, too, takes a glob apart."""
    for name in names:
        if not name.endswith(TAR_NAMES) and os.path.isfile(name):
            with suppress(OSError):  # whoever reads it will say so
                if not tarfile.is_tarfile(name):
                    raise ConfigError(
                        f"{name} is not a tar; leave it out (*.tar names shards alone)"
                    )


def stated(names: Sequence[str]) -> dict[str, str | None]:
    """Local files with their versions: asked for one by one through pyarrow, 100,000 take long."""
    versions: dict[str, str | None] = {}
    for name in names:
        stat = os.stat(name) if os.path.isfile(name) else None
        same = f"size={stat.st_size} mtime_ns={stat.st_mtime_ns}" if stat else None
        # Two slashes at the start stay in abspath, and mean nothing.
        versions[re.sub("^/+", "/", os.path.abspath(name))] = same
    return versions


def _no_tars(folder: Path) -> str:
    seen = list(islice(folder.rglob("*"), N_LOOKED_AT))  # a whole disk takes minutes
    n_images = sum(p.suffix.lower().lstrip(".") in IMAGE_EXTENSIONS for p in seen)
    if n_images:
        at_least = "at least " if len(seen) == N_LOOKED_AT else ""
        return (
            f"{folder} holds {at_least}{n_images} images and no tar shards; "
            f"make shards of them first: restyle pack {folder} 'shards/%06d.tar'"
        )
    return f"no shard matches {folder}: the folder holds no .tar file"


def store_matches(
    pattern: str, endings: tuple[str, ...] = TAR_NAMES, is_deep: bool = False
) -> dict[str, str | None]:
    """Shards of a store, with versions where its listing tells them.

    Args:
        pattern: an address, a glob or a folder.
        endings: of the names of what is meant.
        is_deep: whether subfolders of a folder are meant too.

    Raises:
        ConfigError: there are none, or the store cannot be listed.
    """
    # A store's options (endpoint, region) follow a question mark, a glob character too.
    address, mark, options = pattern.partition("?")
    address, query = (address, mark + options) if "=" in options else (pattern, "")
    if not glob.has_magic(address) and address.endswith(endings):
        return {pattern: None}  # named outright: whether it exists, its version will tell
    # Everything below the last folder without a glob character.
    folder = re.split(r"[*?\[]", address)[0].rpartition("/")[0]
    if glob.has_magic(address) and folder.endswith(":/"):
        raise ConfigError(
            f"{redact(pattern)} does not name one bucket; write the bucket without a glob"
        )
    folder = folder if glob.has_magic(address) else address.rstrip("/")
    wanted = address[len(folder) :].lstrip("/") or f"*{endings[0]}*"
    listed = _listed(folder + query, is_deep=is_deep or "/" in wanted)
    names = sorted(name for name in listed if fnmatch.fnmatchcase(name, wanted))
    if not names:
        raise ConfigError(f"no shard matches {redact(pattern)}")
    require_tars(pattern, names, endings=endings)
    return {f"{folder}/{name}{query}": listed[name] for name in names}


def _listed(folder: str, is_deep: bool) -> dict[str, str | None]:
    """Names of the files below a folder of a store, with their versions."""
    files, path = filesystem(folder)
    selector = pafs.FileSelector(path, recursive=is_deep, allow_not_found=True)
    infos = _ask(lambda: files.get_file_info(selector), folder, "list")
    return {
        info.path[len(path) :].lstrip("/"): _told(files, info)
        for info in infos
        if info.type == pafs.FileType.File
    }


def _with_listed(urls: dict[str, str | None]) -> dict[str, str | None]:
    """Versions of shards that were named outright, by one listing of a folder that holds many."""
    named = [u for u, listed_version in urls.items() if listed_version is None and is_remote(u)]
    folders = Counter(
        split[:2] for u in named if not u.startswith((*HTTP, PIPE)) and (split := _split(u))
    )
    for (folder, query), n in folders.items():
        if n < N_WORTH_LISTING:
            continue
        try:
            listed = _listed(folder + query, is_deep=False)
        except ConfigError:
            continue  # who may not list a store may still ask for each
        for name, listed_version in listed.items():
            url = f"{folder}/{name}{query}"
            if url in urls:
                urls[url] = listed_version
    return urls


def absolute(folder: str) -> str:
    """A folder or prefix for workers, who have another working directory."""
    return folder if is_remote(folder) else os.path.abspath(folder)


def _split(url: str) -> tuple[str, str, str]:
    """Folder, store options and name."""
    address, mark, options = url.partition("?")
    folder, _, name = address.rpartition("/")
    return folder, mark + options, name


def _ask(ask: Callable[[], Answer], url: str, verb: str, retry_unreachable: bool = False) -> Answer:
    """An answer, asked for again where the source is busy; if patient, wherever it may come later."""
    retry = Retry()
    while True:
        try:
            return ask()
        except ConfigError:
            raise
        except Exception as error:
            refused = config_error(error, verb, url)
            if not (retry_unreachable or _is_busy(error)):
                raise refused from None
            retry.wait_or_raise(error, refused)


def _is_busy(error: Exception) -> bool:
    """Throttled, not unreachable: a mistyped host is told at once."""
    if isinstance(error, HTTPError):
        return error.code in RETRYABLE_STATUS
    words = ("SLOW_DOWN", "SERVICE_UNAVAILABLE", "TOO_MANY_REQUESTS", "THROTTL", "SlowDown")
    return any(word in str(error) for word in words)


def _told(files: pafs.FileSystem, info: pafs.FileInfo) -> str | None:
    """The version in a listing's entry; None where a listing does not tell enough."""
    if info.mtime_ns is None:
        return None
    mtime_ns = info.mtime_ns
    if files.type_name == "s3":
        # Some stores list milliseconds and answer for one object in seconds.
        mtime_ns = mtime_ns // 10**9 * 10**9
    return f"size={info.size} mtime_ns={mtime_ns}"


def version(url: str, retry_unreachable: bool = False) -> str:
    """What tells one content of a URL from another; "" where the source does not say.

    Args:
        retry_unreachable: wait also for a source that is out of reach, for much work hangs on the answer.

    Raises:
        ConfigError: there is no such shard, or no way to it.
    """
    if url.startswith(PIPE):
        return ""
    ask = _timely_http_version if url.startswith(HTTP) else _file_version
    return _ask(lambda: ask(url), url, "reach", retry_unreachable)


def state(url: str) -> tuple[int, ...]:
    """What a local file's every change shows in, also one whose date was set back; () of other sources.

    Not its version: a copy with the same date is the same shard, and has another state.
    """
    if not is_remote(url):
        with suppress(OSError):
            facts = os.stat(url)
            return facts.st_dev, facts.st_ino, facts.st_size, facts.st_ctime_ns
    return ()


def _file_version(url: str) -> str:
    files, path = filesystem(url)
    info = files.get_file_info(path)
    if info.type != pafs.FileType.File:
        raise ConfigError(f"no shard matches {redact(url)}: there is no such file")
    listed = _told(files, info)
    return listed if listed is not None else _fsspec_version(files, path, info.size)


def _fsspec_version(files: pafs.PyFileSystem, path: str, size: int) -> str:
    """pyarrow takes only "mtime" over from fsspec, which few of its packages give."""
    facts: Mapping[str, Any] = files.handler.fs.info(path)
    tag = next((f"{name}={facts[name]}" for name in FSSPEC_FIELDS if facts.get(name)), "")
    return f"size={size} {tag}".rstrip()


def _timely_http_version(url: str) -> str:
    """A server may also answer byte by byte, without end."""
    pace = Pace(url, Limits())
    try:
        return pace.within(lambda: _http_version(url))
    except ShardError:
        raise ConfigError(
            f"{redact(url)} did not answer within {pace.limits.window_s:g} s; ask whoever runs its server"
        ) from None
    finally:
        pace.end()


def _http_version(url: str) -> str:
    if "@" in urlsplit(url).netloc:
        raise ConfigError(
            f"{redact(url)} contains a user name, which is not sent; pass 'pipe:curl -u ...'"
        )
    request = urllib.request.Request(url, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=HTTP_TIMEOUT_S) as answer:
            tag = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
            return f"size={answer.headers.get('Content-Length', '')} tag={tag}"
    except HTTPError as error:
        if error.code in (403, 405, 501):  # HEAD not allowed: presigned URLs, simple servers
            return ""
        raise
