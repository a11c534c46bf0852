"""No file is written outside a folder, no program started and no server called, as far as Python sees it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = {
    "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "os.truncate", "os.chmod",
    "shutil.rmtree", "shutil.copyfile", "shutil.move",
}  # fmt: skip
STARTS = {
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "socket.connect",
    "pty.spawn",
}
# A folder of torch's own, which its optimizers make by importing its compiler.
TORCHS_OWN = "torchinductor_"
_allowed: list[str] = []
_is_hooked = False


class Outside(BaseException):
    """Something outside the folder was written, started or called."""


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Watch this process while the block runs; the hook stays, for none can be taken off, and sleeps."""
    global _is_hooked
    if not _is_hooked:
        sys.addaudithook(_hook)
        _is_hooked = True
    _allowed.append(str(folder.resolve()))
    try:
        yield
    finally:
        _allowed.pop()


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _allowed:
        return
    if event in STARTS:
        raise Outside(f"{event} {arguments!r}"[:300])
    if event == "open":
        path, _, how = arguments
        if how & WRITES and isinstance(path, str | bytes):
            _require_inside(event, path)
    elif event in CHANGES:
        _require_inside(event, arguments[0])


def _require_inside(event: str, path: Any) -> None:
    if isinstance(path, int):
        return
    real = os.path.realpath(os.fsdecode(path))
    if real == os.devnull or os.path.basename(real).startswith(TORCHS_OWN):
        return
    if not f"{real}/".startswith(f"{_allowed[-1]}/"):
        raise Outside(f"{event} {real}"[:300])
