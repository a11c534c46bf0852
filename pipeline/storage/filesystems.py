"""pyarrow's filesystem of an address: local, S3, GCS, and what else fsspec knows (hf://, abfs://, sftp://)."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import unquote, urlsplit, urlunsplit

from pyarrow import fs as pafs

from pipeline.errors import ConfigError
from pipeline.storage.urls import HTTP, OBJECT_STORES, PIPE, is_remote, redact, redacted_message

LOCAL = "file://"

N_LOOKS = 5  # at a folder that changes meanwhile


@contextmanager
def as_config_error(verb: str, url: str) -> Iterator[None]:
    """Whatever a library raises inside becomes one sentence: each has exceptions and words of its own.

    Raises:
        ConfigError: in place of every other exception.
    """
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        raise config_error(error, verb, url) from None


def config_error(error: Exception, verb: str, url: str) -> ConfigError:
    """A library's exception in one sentence."""
    return ConfigError(f"cannot {verb} {redact(url)}: {redacted_message(error, url)}")


def require_text(url: str) -> None:
    """Refuse a name of bytes that are no UTF-8, which neither Arrow nor a Parquet column can hold.

    Raises:
        ConfigError: it is one, shown with its bytes escaped.
    """
    try:
        url.encode()
    except UnicodeEncodeError:
        shown = redact(url).encode(errors="backslashreplace").decode()
        raise ConfigError(f"{shown} is not named in UTF-8; rename the file or its folder") from None


def filesystem(url: str) -> tuple[pafs.FileSystem, str]:
    """pyarrow's filesystem for a local path or a store, and the path in it.

    Raises:
        ConfigError: the address or the credentials cannot be used, or a package is not installed.
    """
    require_text(url)
    if url.startswith(LOCAL):
        with as_config_error("open", url):
            url = unquote(urlsplit(url).path)
    if not is_remote(url):
        return pafs.LocalFileSystem(), os.path.abspath(url)
    if url.startswith((*HTTP, PIPE)):
        raise ConfigError(f"{redact(url)} can only be read; pass a folder or a store")
    if not url.startswith(OBJECT_STORES):
        return _by_fsspec(url)
    with as_config_error("open", url):
        parts = urlsplit(url, allow_fragments=False)
    bucket = parts.netloc.rpartition("@")[2]
    path = f"{bucket}{parts.path}".rstrip("/")
    return _object_store(parts.scheme, parts.netloc, parts.query), path


@functools.lru_cache(maxsize=16)
def _object_store(scheme: str, bucket: str, options: str) -> pafs.FileSystem:
    """Kept, because making one may ask the store for its region."""
    url = urlunsplit((scheme, bucket, "", options, ""))
    with as_config_error("open", url):
        return pafs.FileSystem.from_uri(url)[0]


def _by_fsspec(url: str) -> tuple[pafs.FileSystem, str]:
    import fsspec  # slow, and wanted by few

    scheme = url.partition("://")[0]
    with as_config_error("open", url):
        try:
            fsspec.get_filesystem_class(scheme)
            files, path = fsspec.core.url_to_fs(url)
        except ImportError as error:
            raise ConfigError(
                f"{scheme}:// needs a package that is not installed: {error}"
            ) from None
        # What has changed must be seen; a listing kept from before hides it. Some packages keep
        # theirs in a way that cannot be switched off.
        if isinstance(files.dircache, fsspec.dircache.DirCache):
            files.dircache.use_listings_cache = False
        files.invalidate_cache()
    return pafs.PyFileSystem(pafs.FSSpecHandler(files)), path.rstrip("/")


def listed(files: pafs.FileSystem, selector: pafs.FileSelector, url: str) -> list[pafs.FileInfo]:
    """What a folder holds.

    Raises:
        ConfigError: it cannot be listed, or holds a name that is not UTF-8, which Arrow cannot say.
    """
    if isinstance(files, pafs.LocalFileSystem) and os.path.isfile(selector.base_dir):
        raise ConfigError(f"{redact(url)} is a file, where a folder is meant; choose another name")
    with as_config_error("list", url):
        infos = _infos(files, selector)
    try:
        for info in infos:
            _ = info.path
    except UnicodeDecodeError:
        raise ConfigError(
            f"{redact(url)} holds a file whose name is not UTF-8 (`ls -b` shows it); rename it, or move "
            "it out"
        ) from None
    return infos


def _infos(files: pafs.FileSystem, selector: pafs.FileSelector) -> list[pafs.FileInfo]:
    """Arrow fails where a folder is made, or a file goes, between two of its own looks: then once more."""
    for _ in range(N_LOOKS - 1):
        try:
            return files.get_file_info(selector)
        except FileNotFoundError:
            if not selector.allow_not_found:
                raise
    return files.get_file_info(selector)


def require_regular(files: pafs.FileSystem, path: str) -> None:
    """Refuse a pipe or a device: opening one may wait for ever, and none can be read twice.

    Raises:
        OSError: it is one.
    """
    is_local = isinstance(files, pafs.LocalFileSystem)
    if is_local and os.path.exists(path) and not os.path.isfile(path):
        raise OSError("it is not a regular file; copy what it holds to a disk")


def make_folder(files: pafs.FileSystem, path: str) -> None:
    """A folder to write into, where the place has folders; object stores have none to make."""
    if isinstance(files, pafs.LocalFileSystem | pafs.PyFileSystem):
        files.create_dir(path)
