"""Where a shard's bytes come from, opened at any byte: the same content, or an error."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol
from urllib.error import HTTPError

from pipeline.errors import ShardError
from pipeline.storage.filesystems import filesystem, require_regular
from pipeline.storage.listing import HTTP_TIMEOUT_S, version
from pipeline.storage.urls import redact

SKIP_BLOCK = 1 << 20


class Source(Protocol):
    """A shard that can be opened more than once."""

    url: str
    n_bytes: int | None  # known once it was opened, where the source tells

    def at(self, offset: int) -> Any:
        """A stream with ``read(n)`` and ``close()`` that begins at a byte.

        Raises:
            ShardError: the content is another than the first time, or nobody can tell.
            OSError and others: of the library; they may pass.
        """


class FileSource:
    """A file of a local disk or a store."""

    def __init__(self, url: str) -> None:
        self.url, self.n_bytes = url, None  # type: str, int | None
        self._version: Any = None

    def at(self, offset: int) -> Any:
        files, path = filesystem(self.url)
        try:
            require_regular(files, path)
        except OSError as error:
            raise ShardError(f"{redact(self.url)} cannot be read: {error}") from None
        file = files.open_input_file(path)
        try:
            # Stores tell their etag as they open; for the others it is asked for.
            current = file.metadata() or version(self.url, retry_unreachable=True)
            self._version = self._version or current
            if current != self._version:
                raise _changed(self.url)
            self.n_bytes = file.size()
            file.seek(offset)
        except BaseException:
            file.close()
            raise
        return file


class HttpSource:
    """A file of a web server: read on with a Range, or by skipping where the server knows none."""

    def __init__(self, url: str, count: Callable[[int], None] = lambda _: None) -> None:
        """count: told of bytes that are skipped."""
        self.url, self.n_bytes = url, None  # type: str, int | None
        self._count = count
        # ETag or date of the content; "" where the server tells neither, None before it was asked.
        self._tag: str | None = None

    def at(self, offset: int) -> Any:
        if offset and not self._tag:
            raise ShardError(
                f"{redact(self.url)} broke off at byte {offset} and its server does not tell whether "
                "the rest would be of the same file (no ETag, no Last-Modified)"
            )
        answer = self._request(offset)
        try:
            tag = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
            if self._tag is None or not offset:
                self._tag, self.n_bytes = tag, _length(answer)
            elif answer.status == 206:
                self._require_range(answer, offset, tag)
            else:
                if (tag, _length(answer)) != (self._tag, self.n_bytes):
                    raise _changed(self.url)
                _skip(answer, offset, self._count)
        except BaseException:
            answer.close()
            raise
        n_skipped = offset if answer.status != 206 else 0
        length = _length(answer)
        return _Body(answer, None if length is None else length - n_skipped)

    def _request(self, offset: int) -> Any:
        request = urllib.request.Request(self.url)
        if offset:
            request.add_header("Range", f"bytes={offset}-")
            if self._tag and not self._tag.startswith("W/"):  # weak ones are not allowed there
                request.add_header("If-Range", self._tag)
        try:
            return urllib.request.urlopen(request, timeout=HTTP_TIMEOUT_S)
        except HTTPError as error:
            if offset and error.code in (412, 416):
                raise _changed(self.url) from None
            raise

    def _require_range(self, answer: Any, offset: int, tag: str) -> None:
        header = answer.headers.get("Content-Range", "")
        total = "*" if self.n_bytes is None else str(self.n_bytes)
        starts = header.startswith(f"bytes {offset}-")
        if (
            not starts
            or header.rpartition("/")[2] not in (total, "*")
            or tag not in (self._tag, "")
        ):
            raise _changed(self.url)


class _Body:
    """What a server sends, as soon as some of it is there."""

    def __init__(self, answer: Any, n_left: int | None) -> None:
        self._answer, self._n_left = answer, n_left
        self.close = answer.close

    def read(self, n: int) -> bytes:
        """At least a byte, unless there are no more; not beyond the announced length."""
        if self._n_left is not None:
            n = min(n, self._n_left)
        data = self._answer.read1(n) if n else b""
        self._n_left = None if self._n_left is None else self._n_left - len(data)
        return data

    def cut(self) -> None:
        """End the connection, and with it a read that waits in another thread."""
        # No public name leads there; without it, the thread waits for the server's end.
        with suppress(AttributeError, OSError):
            self._answer.fp.raw._sock.shutdown(socket.SHUT_RDWR)


def _length(answer: Any) -> int | None:
    header = answer.headers.get("Content-Length")
    return int(header) if header else None


def _skip(answer: Any, n: int, count: Callable[[int], None]) -> None:
    while n:
        data = answer.read1(min(n, SKIP_BLOCK))
        if not data:
            raise ConnectionError("the server closed the connection")
        n -= len(data)
        count(len(data))


def _changed(url: str) -> ShardError:
    return ShardError(f"{redact(url)} has changed while it was read; run again")
