"""xz as a stream with a bound on its memory, which lzma.open has none for: a file may ask for 4 GiB."""

from __future__ import annotations

import io
import lzma
from typing import Any, BinaryIO

# xz -9 asks for 65 MiB.
MAX_MEMORY = 256 << 20
BLOCK = 1 << 18


def open(raw: BinaryIO, _: str = "rb") -> io.BufferedReader:
    """The decompressed bytes of a stream.

    Reading raises LZMAError for damaged data, and EOFError where it ends too early.
    """
    return io.BufferedReader(_Unpacked(raw), BLOCK)


class _Unpacked(io.RawIOBase):
    def __init__(self, raw: BinaryIO) -> None:
        self._raw, self._xz = raw, lzma.LZMADecompressor(memlimit=MAX_MEMORY)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            if self._xz.eof:
                rest = self._next_stream()
                if not rest:
                    return 0
                self._xz = lzma.LZMADecompressor(memlimit=MAX_MEMORY)
                data = self._decompress(rest, len(buffer))
            else:
                data = self._decompress(self._input(), len(buffer))
            if data:
                buffer[: len(data)] = data
                return len(data)

    def _input(self) -> bytes:
        if not self._xz.needs_input:
            return b""
        data = self._raw.read(BLOCK)
        if not data:
            raise EOFError("it ends inside its compressed data")
        return data

    def _next_stream(self) -> bytes:
        """The beginning of what follows a stream's end, without the zeros that may stand between."""
        rest = self._xz.unused_data.lstrip(b"\0")
        while not rest:
            block = self._raw.read(BLOCK)
            if not block:
                return b""
            rest = block.lstrip(b"\0")
        return rest

    def _decompress(self, data: bytes, n: int) -> bytes:
        try:
            return self._xz.decompress(data, n)
        except lzma.LZMAError as error:
            if "memory" not in str(error).lower():
                raise
            raise lzma.LZMAError(
                f"xz asks for more than {MAX_MEMORY >> 20} MiB of memory; compress it with xz -9 or less"
            ) from None
