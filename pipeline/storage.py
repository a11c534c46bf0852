"""Addresses: local files, s3://, gs://, http(s):// and pipe:; what they name, and how to speak of them."""

from __future__ import annotations

import fnmatch
import functools
import glob
import os
import re
import urllib.error
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import braceexpand
import pyarrow as pa
from pyarrow import fs as pafs

from pipeline.config import ConfigError

OBJECT_STORES = ("s3://", "gs://", "gcs://")
HTTP = ("http://", "https://")
PIPE = "pipe:"
TAR_NAMES = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")
HTTP_TIMEOUT_S = 60
# Query fields of signed URLs, and what precedes a secret in a command.
SECRET_FIELD = re.compile(
    r"(x-amz-|x-goog-|x-ms-|awsaccesskeyid|googleaccessid|signature|sig=|se=|sp=|sv=|st=|expires|policy|"
    r"key|token|password|access_token|$)",
    re.IGNORECASE,
)
SECRET_WORD = re.compile(
    r"\b(authorization|bearer|token|password|secret|api[-_]?key)\b([:=\s]+)(?:basic |bearer )?\S+",
    re.IGNORECASE,
)


class ShardError(RuntimeError):
    """A shard that cannot be read to its end; nothing of it is written."""


def is_remote(url: str) -> bool:
    return url.startswith((*OBJECT_STORES, *HTTP, PIPE))


def public(url: str) -> str:
    """A URL fit for logs, errors and files: without user, password, signature or store options."""
    if url.startswith(PIPE):
        return SECRET_WORD.sub(r"\1\2***", url)
    if not is_remote(url):
        return url
    parts = urlsplit(url, allow_fragments=False)
    kept = [] if url.startswith(OBJECT_STORES) else parts.query.split("&")
    query = "&".join(field for field in kept if not SECRET_FIELD.match(field))
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, query, ""))


def filesystem(url: str) -> tuple[pafs.FileSystem, str]:
    """pyarrow's filesystem for a local path or an object store, and the path in it.

    Raises:
        ConfigError: the address or the credentials cannot be used.
    """
    if not url.startswith(OBJECT_STORES):
        return pafs.LocalFileSystem(), os.path.abspath(url)
    parts = urlsplit(url, allow_fragments=False)
    return _object_store(parts.scheme, parts.netloc, parts.query), _key(url)


def _key(url: str) -> str:
    """bucket/key of an object-store URL."""
    parts = urlsplit(url, allow_fragments=False)
    return f"{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")


@functools.lru_cache(maxsize=16)
def _object_store(scheme: str, bucket: str, options: str) -> pafs.FileSystem:
    """Kept, because making one may ask the store for its region."""
    url = urlunsplit((scheme, bucket, "", options, ""))
    try:
        return pafs.FileSystem.from_uri(url)[0]
    except (pa.ArrowException, OSError) as error:
        # pyarrow repeats the address, and with it a password.
        reason = "" if "@" in bucket else f": {error}"
        raise ConfigError(f"cannot open {public(url)}{reason}") from None


def expand(patterns: Sequence[str]) -> list[str]:
    """Brace expressions, globs and directories -> shard URLs, in order, each once.

    Raises:
        ConfigError: a pattern that matches nothing.
    """
    urls: dict[str, None] = {}
    for pattern in patterns:
        try:
            braces = [pattern] if pattern.startswith(PIPE) else braceexpand.braceexpand(pattern)
            for part in braces:
                urls.update(dict.fromkeys(_matches(part)))
        except braceexpand.UnbalancedBracesError:  # type: ignore[attr-defined]
            raise ConfigError(f"the braces of {public(pattern)} do not match") from None
    return list(urls)


def _matches(pattern: str) -> list[str]:
    if pattern.startswith((*HTTP, PIPE)):
        return [pattern]
    if pattern.startswith(OBJECT_STORES):
        return _object_matches(pattern)
    path = Path(pattern)
    if path.is_dir():
        found = sorted(str(p) for p in path.iterdir() if p.name.endswith(TAR_NAMES))
        if not found:
            raise ConfigError(_no_tars(path))
    else:
        found = sorted(glob.glob(pattern, recursive=True))
    if not found:
        raise ConfigError(f"no shard matches {pattern}; check the path (it is read from here)")
    return [os.path.abspath(name) for name in found]


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
    # A store's options (endpoint, region) follow a question mark, a glob character too.
    address, mark, options = pattern.partition("?")
    address, query = (address, mark + options) if "=" in options else (pattern, "")
    if not glob.has_magic(address) and address.endswith(TAR_NAMES):
        return [pattern]  # named outright: whether it exists, its identity will tell
    has_magic = glob.has_magic(address)
    # Everything below the last folder without a glob character.
    folder = re.split(r"[*?\[]", address)[0].rpartition("/")[0] if has_magic else address
    files, path = filesystem(folder + query)
    wanted = _key(address) if has_magic else f"{path}/*.tar*"
    is_deep = "/" in address[len(folder) + 1 :]
    try:
        infos = files.get_file_info(
            pafs.FileSelector(path, recursive=is_deep, allow_not_found=True)
        )
    except OSError as error:
        raise ConfigError(f"cannot list {public(pattern)}: {error}") from None
    before = folder[: len(folder.rstrip("/")) - len(path)]  # scheme and user
    found = sorted(
        f"{before}{info.path}{query}"
        for info in infos
        if info.type == pafs.FileType.File and fnmatch.fnmatchcase(info.path, wanted)
    )
    if not found:
        raise ConfigError(f"no shard matches {public(pattern)}")
    return found


def identity(url: str) -> str:
    """What tells one content of a URL from another; "" where the source does not say.

    Raises:
        ConfigError: there is no such shard, or no way to it.
    """
    if url.startswith(PIPE):
        return ""
    if url.startswith(HTTP):
        return _http_identity(url)
    files, path = filesystem(url)
    try:
        info = files.get_file_info(path)
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(f"cannot reach {public(url)}: {error}") from None
    if info.type != pafs.FileType.File:
        raise ConfigError(f"no shard matches {public(url)}: there is no such file")
    return f"size={info.size} mtime_ns={info.mtime_ns}"


def _http_identity(url: str) -> str:
    if "@" in urlsplit(url).netloc:
        raise ConfigError(
            f"{public(url)} was given with a user name, which is not sent; pass 'pipe:curl -u ...'"
        )
    try:
        request = urllib.request.Request(url, method="HEAD")
        with urllib.request.urlopen(request, timeout=HTTP_TIMEOUT_S) as answer:
            tag = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
            return f"size={answer.headers.get('Content-Length', '')} tag={tag}"
    except urllib.error.HTTPError as error:
        if error.code in (403, 405, 501):  # HEAD not allowed: presigned URLs, simple servers
            return ""
        raise ConfigError(f"no shard at {public(url)}: HTTP {error.code}") from None
    except (OSError, HTTPException, ValueError) as error:
        raise ConfigError(f"cannot reach {public(url)}: {error}") from None
