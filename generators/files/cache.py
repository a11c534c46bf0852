"""Where this user keeps what would take long to find, or to fetch, again."""

from __future__ import annotations

import os
from pathlib import Path


def folder(name: str) -> Path:
    """``restyle-batch/NAME`` in the user's cache: ``XDG_CACHE_HOME``, or ``~/.cache``.

    Raises:
        RuntimeError: this user has no home folder, and the environment names no other.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "restyle-batch" / name
