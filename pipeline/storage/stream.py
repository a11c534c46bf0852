"""A shard's bytes, read once from start to end, from wherever it lies, over every interruption."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO, cast

from pipeline.errors import ConfigError, ShardError
from pipeline.storage.retry import Retry
from pipeline.storage.sources import FileSource, HttpSource, Source
from pipeline.storage.urls import HTTP, PIPE, is_remote, redact, redacted_message

READ_BLOCK = 1 << 20
# One request of a store each: large enough that its answer's delay does not count.
STORE_BLOCK = 8 << 20
DECOMPRESSORS: dict[bytes, Any] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}


@contextmanager
def open_stream(url: str) -> Iterator[BinaryIO]:
    """A shard's bytes, decompressed, read once from start to end.

    A source that breaks off is opened again where it broke, a bounded number of times; who reads does
    not notice.

    Raises:
        ShardError: it cannot be opened, ended before its announced length, or changed meanwhile.
    """
    opener = _open_pipe if url.startswith(PIPE) else _open_source
    with opener(url) as raw:
        is_store = is_remote(url) and not url.startswith((*HTTP, PIPE))
        buffered = io.BufferedReader(cast(Any, raw), STORE_BLOCK if is_store else READ_BLOCK)
        start = buffered.peek(6)[:6]
        for magic, decompress in DECOMPRESSORS.items():
            if start.startswith(magic):
                yield decompress(buffered, "rb")
                return
        yield buffered


@contextmanager
def _open_source(url: str) -> Iterator[io.RawIOBase]:
    raw = _Resumed(HttpSource(url) if url.startswith(HTTP) else FileSource(url))
    try:
        yield raw
    finally:
        raw.drop()


@contextmanager
def _open_pipe(url: str) -> Iterator[io.RawIOBase]:
    command = url.removeprefix(PIPE).strip()
    # A group of its own: a shell that is killed leaves what it has started running.
    with subprocess.Popen(
        command, shell=True, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout is not None
        try:
            yield cast(io.RawIOBase, process.stdout)
            # What follows the end-of-archive marker must be taken, or the command dies of it.
            while process.stdout.read(READ_BLOCK):
                pass
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode:
        raise ShardError(f"{redact(url)} ended with status {process.returncode}")


class _Resumed(io.RawIOBase):
    """A source from its first byte to its last, each once, opened again wherever it breaks."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._stream: Any = None
        self._position = 0  # bytes handed on
        self._retry, self._broke_at = Retry(), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            try:
                data = self._read(len(buffer))
            except (ShardError, ConfigError):
                raise
            except Exception as error:  # stores fail in the words of whatever library reads them
                self.drop()
                self._wait(error)
                continue
            buffer[: len(data)] = data
            self._position += len(data)
            return len(data)

    def _read(self, n: int) -> bytes:
        if self._stream is None:
            self._stream = self._source.at(self._position)
        data = self._stream.read(n)
        n_bytes = self._source.n_bytes
        if not data and n_bytes is not None and self._position < n_bytes:
            raise ConnectionError(f"it ended {n_bytes - self._position} bytes before its end")
        return data

    def _wait(self, error: Exception) -> None:
        # A break that followed some progress is a new one, not the same again.
        if self._position - self._broke_at >= READ_BLOCK:
            self._retry = Retry()
        self._broke_at = self._position
        url = self._source.url
        where = f" broke off at byte {self._position}" if self._position else ""
        verb = "reading" if self._position else "cannot read"
        failure = ShardError(f"{verb} {redact(url)}{where}: {redacted_message(error, url)}")
        self._retry.wait_or_raise(error, failure)

    def drop(self) -> None:
        """Close what is open; a broken connection may not even close."""
        stream, self._stream = self._stream, None
        try:
            if stream is not None:
                stream.close()
        except Exception:
            pass
