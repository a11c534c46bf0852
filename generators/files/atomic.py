"""Files that appear whole under their name, or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MAX_NAME_BYTES = 255  # of every file system in use
MAX_STEM = 40  # characters: of four bytes each at most


@contextmanager
def written(path: str | os.PathLike) -> Iterator[Path]:
    """A path beside ``path`` to write to; it gets that name when the block ends without an error.

    Raises:
        OSError: it fails, or what has that name is a device, a pipe or a folder, which is not replaced.
    """
    path = Path(os.path.realpath(path))
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError(errno.EEXIST, "it is there, but not a regular file", str(path))
    if len(os.fsencode(path.name)) > MAX_NAME_BYTES:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), str(path))
    # Of a long name the beginning, so that there is room for the rest.
    part = path.with_name(f".{path.stem[:MAX_STEM]}{path.suffix[:MAX_STEM]}.{os.getpid()}.part")
    try:
        yield part
        # Some libraries write for the owner alone; this is a file like any other.
        umask = os.umask(0)
        os.umask(umask)
        part.chmod(0o666 & ~umask)
        os.replace(part, path)
    finally:
        with suppress(OSError):  # most often it was renamed
            part.unlink()


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
    """Write a file whole."""
    with written(path) as part:
        part.write_bytes(data)
