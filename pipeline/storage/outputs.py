"""Local files and folders to be written, judged before anything is computed for them."""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from pipeline.errors import ConfigError
from pipeline.storage.urls import is_remote, redact

MAX_NAME_BYTES = 255  # of every file system in use


def writable_file(out: str | os.PathLike[str], example: str = "") -> Path:
    """The path of a file to be written, if that will work; its folder is made.

    Args:
        example: a name such as ``report.html``, for messages.

    Raises:
        ConfigError: it will not: an address that is not local, a folder, a device, no permission.
    """
    goal = Path(out)
    such_as = f", such as --out {example}" if example else ""
    if is_remote(str(out)):
        raise ConfigError(f"{redact(str(out))} is not a local file; pass one{such_as}")
    try:
        require_new_name(goal)
        mode = goal.stat().st_mode if os.path.lexists(goal) and goal.exists() else None
        if mode is not None and stat.S_ISDIR(mode):
            inside = f", such as --out {goal / example}" if example else ""
            raise ConfigError(f"{out} is a folder; pass a file{inside}")
        if mode is not None and not stat.S_ISREG(mode):
            raise ConfigError(f"{out} is a device or a pipe; pass a file{such_as}")
        goal.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=goal.parent).close()
    except OSError as error:
        raise not_writable(goal, error) from None
    return goal


def writable_folder(out: str | os.PathLike[str]) -> Path:
    """The path of a folder to be written to, if that will work; it is made.

    Raises:
        ConfigError: it will not.
    """
    goal = Path(out)
    if is_remote(str(out)):
        raise ConfigError(f"{redact(str(out))} is not a local folder; pass one, such as --out demo")
    try:
        goal.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=goal).close()
    except OSError as error:
        raise not_writable(goal, error) from None
    return goal


def require_new_name(path: Path) -> None:
    """Raise an OSError where no file can have this name."""
    with suppress(
        FileNotFoundError
    ):  # others: a part is too long, or a file where a folder should be
        path.lstat()


def not_writable(path: str | os.PathLike[str], error: OSError) -> ConfigError:
    """That a file or folder cannot be written, in one sentence."""
    return ConfigError(f"cannot write {path} ({error.strerror or error}); choose another --out")
