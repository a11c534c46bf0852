"""The headers of a tar, read strictly and within bounds: whoever made the tar chose every number in them."""

from __future__ import annotations

import tarfile
from typing import Any, BinaryIO

# What stands before a member's own header: a long name, or pax's records. Names are shorter than this.
MAX_HEADER_BYTES = 1 << 20
# Of those before one member: a global one, a member's, a long name and a long link, with room to spare.
MAX_PREFIXES = 16
# Of a member that is passed over; hours at the speed of a network.
MAX_MEMBER_BYTES = 1 << 40
# Reads of a source that has ended; tarfile skips a member of any size by reading on.
MAX_EMPTY_READS = 64
PREFIXES = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
MAX_DIGITS = 20


class UnusableTar(tarfile.ReadError):
    """A tar that is not read on; the message says what is in it, and what to do."""


class Ending:
    """A stream that says so once somebody reads on and on behind its end."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._n_empty = stream, 0

    def read(self, n: int) -> bytes:
        """At most n bytes.

        Raises:
            EOFError: there are none, and it was asked often.
        """
        data = self._stream.read(n)
        if not data:
            self._n_empty += 1
            if self._n_empty > MAX_EMPTY_READS:
                raise EOFError("it ends inside a member, which announced to be larger")
        return data


class StrictTarInfo(tarfile.TarInfo):
    """Takes nothing but the end marker for the end of a tar, and reads no header that has no bounds.

    tarfile itself ends without a word at a damaged header and at a stream that is cut between two members;
    it holds a header of any size in memory, takes the square of its length to search it, and goes one call
    deeper for each header before a member.
    """

    # Of a sparse file the tar holds the parts and a map, not the file.
    is_sparse = False

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> StrictTarInfo:
        """The next member; tarfile calls this."""
        try:
            return super().fromtarfile(tar)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"{error} at byte {tar.offset}") from None

    def _proc_member(self, tar: Any) -> StrictTarInfo:
        """The member that begins with this header; tarfile calls this."""
        if not 0 <= self.size <= MAX_MEMBER_BYTES:
            raise UnusableTar(f"a member whose size is given as {self.size}; write the tar again")
        if self.type in PREFIXES:
            return self._described(tar)
        if self.type == tarfile.GNUTYPE_SPARSE:
            self._skip_map(tar)
            self.is_sparse = True
        return self._proc_builtin(tar)  # type: ignore[attr-defined]

    def _described(self, tar: Any) -> StrictTarInfo:
        """The member behind this header, with what the header says of it."""
        if self.size > MAX_HEADER_BYTES:
            raise UnusableTar(
                f"a header of {self.size / 2**20:.1f} MiB for the name of a member, where at most "
                f"{MAX_HEADER_BYTES >> 20} MiB is read; write the tar again, with shorter names"
            )
        data = tar.fileobj.read(self._block(self.size))[: self.size]  # type: ignore[attr-defined]
        if len(data) < self.size:
            raise tarfile.ReadError("it ends inside a header")
        is_pax = self.type not in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
        records = _records(data) if is_pax else {}
        member = self._next(tar)
        if self.type == tarfile.XGLTYPE:
            if {"path", "size"} & records.keys():
                raise UnusableTar(
                    "a global header that names all members alike; write the tar again"
                )
        elif is_pax:
            member._apply(records, tar)
        elif self.type == tarfile.GNUTYPE_LONGNAME:
            member.name = _text(data.partition(b"\0")[0])
            if member.isdir():
                member.name = member.name.rstrip("/")
        member.offset = self.offset
        return member

    def _next(self, tar: Any) -> StrictTarInfo:
        """What follows a header, which may be another one."""
        tar.n_prefixes = getattr(tar, "n_prefixes", 0) + 1
        try:
            if tar.n_prefixes > MAX_PREFIXES:
                raise UnusableTar(
                    f"more than {MAX_PREFIXES} headers before one member; write the tar again"
                )
            return self.fromtarfile(tar)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise tarfile.ReadError("a header describes a member that does not follow") from None
        finally:
            tar.n_prefixes -= 1

    def _apply(self, records: dict[str, bytes], tar: Any) -> None:
        """Take over what pax's records say."""
        name = records.get("GNU.sparse.name", records.get("path"))
        if name is not None:
            self.name = _text(name).rstrip("/")
        self.is_sparse |= any(keyword.startswith("GNU.sparse.") for keyword in records)
        if "size" in records:
            size = records["size"]
            if not size.isdigit() or len(size) > MAX_DIGITS or int(size) > MAX_MEMBER_BYTES:
                raise UnusableTar("a member whose size is no number; write the tar again")
            self.size = int(size)
            has_data = self.isreg() or self.type not in tarfile.SUPPORTED_TYPES  # type: ignore[attr-defined]
            n_bytes = self._block(self.size) if has_data else 0  # type: ignore[attr-defined]
            tar.offset = self.offset_data + n_bytes

    def _skip_map(self, tar: Any) -> None:
        """Pass over the blocks that say where the parts of a sparse file belong."""
        _, goes_on, _ = self._sparse_structs  # type: ignore[attr-defined]
        n_blocks = 0
        while goes_on:
            block = tar.fileobj.read(tarfile.BLOCKSIZE)
            n_blocks += 1
            if len(block) < tarfile.BLOCKSIZE:
                raise tarfile.ReadError("it ends inside a header")
            if n_blocks * tarfile.BLOCKSIZE > MAX_HEADER_BYTES:
                raise UnusableTar(
                    f"a sparse file of more parts than {MAX_HEADER_BYTES >> 20} MiB can list; write the tar "
                    "without --sparse"
                )
            goes_on = block[504] != 0


def _records(data: bytes) -> dict[str, bytes]:
    """What a pax header says: each record is its own length, a space, keyword=value and a newline."""
    records: dict[str, bytes] = {}
    position = 0
    while position < len(data) and data[position]:
        space = data.find(b" ", position, position + MAX_DIGITS)
        digits = data[position : max(space, 0)]
        end = position + int(digits) if digits.isdigit() else 0
        keyword, equals, value = data[space + 1 : max(end - 1, 0)].partition(b"=")
        if not space < end <= len(data) or not equals:
            raise tarfile.ReadError("a damaged pax header")
        records[_text(keyword)] = value
        position = end
    return records


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
