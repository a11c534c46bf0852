"""Where shards come from and Parquet goes to: local files, s3://, gs://, http(s):// and pipe:."""

from __future__ import annotations

import bz2
import fnmatch
import glob
import gzip
import io
import lzma
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit, urlunsplit

import braceexpand
import pyarrow as pa
from pyarrow import fs as pafs

from pipeline.config import ConfigError

OBJECT_STORES = ("s3://", "gs://", "gcs://")
HTTP = ("http://", "https://")
PIPE = "pipe:"
HTTP_TIMEOUT_S = 60
READ_BLOCK = 1 << 20
DECOMPRESSORS: dict[bytes, Any] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}


class ShardError(RuntimeError):
    """A shard that cannot be read to its end; nothing of it is written."""


def is_remote(url: str) -> bool:
    return url.startswith((*OBJECT_STORES, *HTTP, PIPE))


def filesystem(url: str) -> tuple[pafs.FileSystem, str]:
    """pyarrow's filesystem for a local path or an object store, and the path in it.

    Raises:
        ConfigError: the address or the credentials cannot be used.
    """
    if not url.startswith(OBJECT_STORES):
        return pafs.LocalFileSystem(), os.path.abspath(url)
    try:
        return pafs.FileSystem.from_uri(url)
    except (pa.ArrowException, OSError) as error:
        raise ConfigError(f"cannot open {public(url)}: {error}") from None


def public(url: str) -> str:
    """A URL without user name, password and query, fit for logs and errors."""
    if not is_remote(url) or url.startswith(PIPE):
        return url
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def expand(patterns: tuple[str, ...] | list[str]) -> list[str]:
    """Brace expressions, globs and directories -> shard URLs, in order, each once.

    Raises:
        ConfigError: a pattern that matches nothing.
    """
    urls: dict[str, None] = {}
    for pattern in patterns:
        braces = [pattern] if pattern.startswith(PIPE) else list(braceexpand.braceexpand(pattern))
        for part in braces:
            urls.update(dict.fromkeys(_matches(part)))
    return list(urls)


def _matches(pattern: str) -> list[str]:
    if pattern.startswith((*HTTP, PIPE)):
        return [pattern]
    if pattern.startswith(OBJECT_STORES):
        return _object_matches(pattern)
    path = Path(pattern)
    if path.is_dir():
        found = sorted(str(p) for p in path.iterdir() if p.suffix in (".tar", ".tgz") or _is_tgz(p))
        if not found:
            raise ConfigError(_no_tars(path))
    else:
        found = sorted(glob.glob(pattern, recursive=True))
    if not found:
        raise ConfigError(f"no shard matches {pattern}; check the path (it is read from here)")
    return [os.path.abspath(name) for name in found]


def _is_tgz(path: Path) -> bool:
    return path.name.endswith((".tar.gz", ".tar.bz2", ".tar.xz"))


def _no_tars(folder: Path) -> str:
    from pipeline.reader import IMAGE_EXTENSIONS  # reads through this module

    n_images = sum(p.suffix.lower().lstrip(".") in IMAGE_EXTENSIONS for p in folder.rglob("*"))
    if n_images:
        return (
            f"{folder} holds {n_images} images and no tar shards; "
            f"make shards of them first: restyle pack {folder} 'shards/%06d.tar'"
        )
    return f"no shard matches {folder}: the folder holds no .tar file"


def _object_matches(pattern: str) -> list[str]:
    # pyarrow takes a store's options (endpoint, region) after a question mark, a glob character too.
    address, mark, options = pattern.partition("?")
    query = mark + options if "=" in options else ""
    address = address if query else pattern
    has_magic = glob.has_magic(address)
    folder = (
        address[: min(address.index(c) for c in "*?[" if c in address)] if has_magic else address
    )
    folder = folder.rpartition("/")[0] if has_magic else folder
    files, path = filesystem(folder + query)
    try:
        if not has_magic and files.get_file_info(path).type == pafs.FileType.File:
            return [pattern]
        selector = pafs.FileSelector(path, recursive="**" in address, allow_not_found=True)
        infos = files.get_file_info(selector)
    except OSError as error:
        raise ConfigError(f"cannot list {public(pattern)}: {error}") from None
    scheme, _, rest = address.partition("://")
    wanted = rest if has_magic else rest.rstrip("/") + "/*.tar*"
    found = sorted(
        f"{scheme}://{info.path}{query}"
        for info in infos
        if info.type == pafs.FileType.File and fnmatch.fnmatch(info.path, wanted)
    )
    if not found:
        raise ConfigError(f"no shard matches {public(pattern)}")
    return found


def identity(url: str) -> str:
    """What tells one content of a URL from another; "" where the source does not say."""
    if url.startswith(PIPE):
        return ""
    if url.startswith(HTTP):
        request = urllib.request.Request(url, method="HEAD")
        try:
            with urllib.request.urlopen(request, timeout=HTTP_TIMEOUT_S) as answer:
                tag = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
                return f"size={answer.headers.get('Content-Length', '')} tag={tag}"
        except urllib.error.HTTPError as error:
            if error.code in (403, 405, 501):  # HEAD not allowed: presigned URLs, simple servers
                return ""
            raise ConfigError(f"no shard at {public(url)}: HTTP {error.code}") from None
        except OSError as error:
            raise ConfigError(f"cannot reach {public(url)}: {error}") from None
    files, path = filesystem(url)
    info = files.get_file_info(path)
    if info.type == pafs.FileType.NotFound:
        raise ConfigError(f"no shard at {public(url)}")
    return f"size={info.size} mtime_ns={info.mtime_ns}"


@contextmanager
def open_stream(url: str) -> Iterator[BinaryIO]:
    """A shard's bytes, decompressed, read once from start to end.

    Raises:
        ShardError: it cannot be opened, or it ended before its announced length.
    """
    opener = (
        _open_http if url.startswith(HTTP) else _open_pipe if url.startswith(PIPE) else _open_file
    )
    with opener(url) as raw:
        buffered = io.BufferedReader(cast(Any, raw), READ_BLOCK)
        start = buffered.peek(6)[:6]
        for magic, decompress in DECOMPRESSORS.items():
            if start.startswith(magic):
                yield decompress(buffered, "rb")
                return
        yield buffered


@contextmanager
def _open_file(url: str) -> Iterator[io.RawIOBase]:
    files, path = filesystem(url)
    try:
        with files.open_input_stream(path, compression=None, buffer_size=0) as stream:
            yield _Raw(stream, None, url)
    except FileNotFoundError:
        raise ShardError(f"no shard at {public(url)}") from None


@contextmanager
def _open_http(url: str) -> Iterator[io.RawIOBase]:
    try:
        answer = urllib.request.urlopen(url, timeout=HTTP_TIMEOUT_S)
    except OSError as error:
        raise ShardError(f"cannot read {public(url)}: {error}") from None
    with answer:
        length = answer.headers.get("Content-Length")
        yield _Raw(answer, int(length) if length else None, url)


@contextmanager
def _open_pipe(url: str) -> Iterator[io.RawIOBase]:
    command = url.removeprefix(PIPE).strip()
    with subprocess.Popen(command, shell=True, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield _Raw(process.stdout, None, url)
            # What follows the end-of-archive marker must be taken, or the command dies of it.
            while process.stdout.read(READ_BLOCK):
                pass
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise ShardError(f"`{command}` ended with status {process.returncode}")


class _Raw(io.RawIOBase):
    """A readable stream that notices when it ends before its announced length."""

    def __init__(self, stream: Any, length: int | None, url: str) -> None:
        self._stream, self._left, self._url = stream, length, url

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._stream.read(len(buffer))
        except (OSError, pa.ArrowException) as error:
            raise ShardError(f"reading {public(self._url)} broke off: {error}") from error
        if self._left is not None:
            self._left -= len(data)
            if not data and self._left > 0:
                raise ShardError(f"{public(self._url)} broke off {self._left} bytes before its end")
        buffer[: len(data)] = data
        return len(data)
