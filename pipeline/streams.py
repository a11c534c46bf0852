"""A shard's bytes, read once from start to end, from wherever it lies."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from typing import Any, BinaryIO, cast

import pyarrow as pa

from pipeline.storage import HTTP, HTTP_TIMEOUT_S, PIPE, ShardError, filesystem, public

READ_BLOCK = 1 << 20
DECOMPRESSORS: dict[bytes, Any] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}


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
        stream = files.open_input_stream(path, compression=None, buffer_size=0)
    except (OSError, pa.ArrowException) as error:
        raise ShardError(f"cannot read {public(url)}: {error}") from None
    with stream:
        yield _Raw(stream, None, url)


@contextmanager
def _open_http(url: str) -> Iterator[io.RawIOBase]:
    try:
        answer = urllib.request.urlopen(url, timeout=HTTP_TIMEOUT_S)
    except (OSError, HTTPException, ValueError) as error:
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
        raise ShardError(f"{public(url)} ended with status {process.returncode}")


class _Raw(io.RawIOBase):
    """A readable stream that notices when it ends before its announced length."""

    def __init__(self, stream: Any, length: int | None, url: str) -> None:
        self._stream, self._left, self._url = stream, length, url

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._stream.read(len(buffer))
        except (OSError, HTTPException, pa.ArrowException) as error:
            raise ShardError(f"reading {public(self._url)} broke off: {error}") from error
        if self._left is not None:
            self._left -= len(data)
            if not data and self._left > 0:
                raise ShardError(f"{public(self._url)} broke off {self._left} bytes before its end")
        buffer[: len(data)] = data
        return len(data)
