"""A shard's bytes, read once from start to end, from wherever it lies, over every interruption."""

from __future__ import annotations

import bz2
import gzip
import io
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from pipeline.errors import ConfigError, ShardError
from pipeline.storage import xz
from pipeline.storage.filesystems import LOCAL
from pipeline.storage.pace import Limits, Pace
from pipeline.storage.retry import Retry
from pipeline.storage.sources import FileSource, HttpSource, Source
from pipeline.storage.urls import HTTP, PIPE, is_remote, redact, redacted_message

READ_BLOCK = 1 << 20
# One request of a store each: large enough that its answer's delay does not count.
STORE_BLOCK = 8 << 20
DECOMPRESSORS: dict[bytes, Any] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": xz.open,
}
ZSTD = b"\x28\xb5\x2f\xfd"
N_MAGIC = 6  # bytes that tell one compression from another


@dataclass
class Meter:
    """How far a stream has been read, for an estimate of what is left; anyone may look at any time."""

    n_read: int = 0  # bytes as they lie in the source, or samples
    n_in_all: int | None = None  # of the whole source; None: it does not tell

    @property
    def share(self) -> float:
        """Of the source, 0 to 1; 0 where its length is not known."""
        return min(1.0, self.n_read / self.n_in_all) if self.n_in_all else 0.0


@contextmanager
def open_stream(
    url: str, limits: Limits | None = None, meter: Meter | None = None
) -> Iterator[BinaryIO]:
    """A shard's bytes, decompressed, read once from start to end.

    A source that breaks off is opened again where it broke, a bounded number of times; who reads does
    not notice.

    Args:
        limits: how slow a server, a store or a command may be; the usual ones if None.
        meter: is told how far it was read; a command's output has no length.

    Raises:
        ShardError: it cannot be opened, ended before its announced length, changed meanwhile, or is too slow.
    """
    limits = limits or Limits()
    opened = _open_pipe(url, limits) if url.startswith(PIPE) else _open_source(url, limits, meter)
    with opened as raw:
        is_store = _is_store(url)
        buffered = io.BufferedReader(cast(Any, raw), STORE_BLOCK if is_store else READ_BLOCK)
        start = buffered.peek(N_MAGIC)[:N_MAGIC]
        for magic, decompress in DECOMPRESSORS.items():
            if start.startswith(magic):
                yield decompress(buffered, "rb")
                return
        if start.startswith(ZSTD):
            raise ShardError(
                f"{redact(url)} is compressed with zstd, which is not read here; pass 'pipe:zstd -dc FILE'"
            )
        yield buffered


def _is_store(url: str) -> bool:
    return is_remote(url) and not url.startswith((*HTTP, PIPE, LOCAL))


@contextmanager
def _open_source(url: str, limits: Limits, meter: Meter | None) -> Iterator[io.RawIOBase]:
    # Nothing is known of a store's answer before it is complete.
    pace = Pace(url, limits.by_block(STORE_BLOCK) if _is_store(url) else limits)
    is_local = not is_remote(url) or url.startswith(LOCAL)
    source = HttpSource(url, pace.count) if url.startswith(HTTP) else FileSource(url)
    raw = _Resumed(source, None if is_local else pace, meter)
    try:
        yield raw
    finally:
        raw.drop()
        pace.end()


@contextmanager
def _open_pipe(url: str, limits: Limits) -> Iterator[io.RawIOBase]:
    command = url.removeprefix(PIPE).strip()
    pace = Pace(url, limits)
    # A group of its own: a shell that is killed leaves what it has started running.
    process = subprocess.Popen(
        command, shell=True, stdout=subprocess.PIPE, start_new_session=True, bufsize=0
    )
    assert process.stdout is not None
    raw = _Piped(process.stdout, pace)
    try:
        yield raw
        # What follows the end-of-archive marker must be taken, or the command dies of it.
        while raw.read(READ_BLOCK):
            pass
        status = pace.within(process.wait)
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    finally:
        # By the thread: what the command has started may hold the pipe open, and a read of it.
        pace.later(process.stdout.close)
        pace.end()
    if status:
        raise ShardError(f"{redact(url)} ended with status {status}")


class _Piped(io.RawIOBase):
    """What a command writes."""

    def __init__(self, stdout: Any, pace: Pace) -> None:
        self._stdout, self._pace, self._is_begun = stdout, pace, False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._read(len(buffer))
        while not self._is_begun and 0 < len(data) < N_MAGIC:
            more = self._read(len(buffer) - len(data))
            data, self._is_begun = data + more, not more
        self._is_begun = True
        buffer[: len(data)] = data
        return len(data)

    def _read(self, n: int) -> bytes:
        data: bytes = self._pace.within(lambda: self._stdout.read(n))
        self._pace.count(len(data))
        return data


class _Resumed(io.RawIOBase):
    """A source from its first byte to its last, each once, opened again wherever it breaks."""

    def __init__(
        self,
        source: Source,
        pace: Pace | None = None,  # None: a disk, which is not watched
        meter: Meter | None = None,
    ) -> None:
        self._source, self._pace = source, pace
        self._meter = meter or Meter()
        self._stream: Any = None
        self._position = 0  # bytes handed on
        self._retry, self._broke_at = Retry(), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            try:
                data = self._timely(len(buffer))
                # The first bytes tell the compression, however few a server sends at once.
                is_begun = self._position > 0
                while (
                    not is_begun and 0 < len(data) < N_MAGIC and len(data) != self._source.n_bytes
                ):
                    more = self._timely(len(buffer) - len(data))
                    data, is_begun = data + more, not more
            except (ShardError, ConfigError):
                raise
            except Exception as error:  # stores fail in the words of whatever library reads them
                self.drop()
                self._wait(error)
                continue
            buffer[: len(data)] = data
            self._position += len(data)
            self._meter.n_read, self._meter.n_in_all = self._position, self._source.n_bytes
            return len(data)

    def _timely(self, n: int) -> bytes:
        if self._pace is None:
            return self._read(n)
        data = self._pace.within(lambda: self._read(n))
        self._pace.count(len(data))
        return data

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
        # A read that is given up still waits in the thread, and whoever closes would wait for it.
        with suppress(Exception):
            if (cut := getattr(self._stream, "cut", None)) is not None:
                cut()
        if self._pace is None:
            self._close()
        else:
            self._pace.later(self._close)

    def _close(self) -> None:
        stream, self._stream = self._stream, None
        with suppress(Exception):
            if stream is not None:
                stream.close()
