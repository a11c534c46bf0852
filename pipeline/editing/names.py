"""File names of pictures: made of keys, which may hold anything, and different for each row."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from pipeline import storage

MAX_PART = 120  # characters of a folder's or a file's name


class Names:
    """Gives each row of one shard a path of its own, the same in every run."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def path(self, key: str, face: int, direction: str | None, strength: float | None) -> str:
        """Such as ``2024/anna_face1_smile+2``, without an extension; nothing leads out of a folder."""
        parts = [_safe(part) for part in key.split("/")]
        name = "/".join(part for part in parts if part) or "_"
        if face > 0:
            name += f"_face{face}"
        if direction is not None:
            name += f"_{_safe(direction)}{strength:+g}"
        unique, n = name, 2
        # Two keys may become one name here, and one key may stand twice in a shard.
        while unique.lower() in self._taken:
            unique, n = f"{name}~{n}", n + 1
        self._taken.add(unique.lower())
        return unique


def _safe(part: str) -> str:
    return re.sub(r"[^\w. +=@,-]", "_", part).strip(". ")[:MAX_PART]


def folder(shard: str, output: str, stems: dict[str, str]) -> str:
    """The folder of a shard's pictures: its own name, with the file's hash where two have the same.

    Args:
        output: name of its Parquet file.
        stems: those given so far, each with its shard; added to.
    """
    path = shard if shard.startswith(storage.PIPE) else urlsplit(shard).path
    stem = _safe(PurePosixPath(path).name.split(".tar")[0]) or "_"
    if stems.setdefault(stem, shard) == shard:
        return stem
    return f"{stem}.{_safe(output.split('.')[-3] if output.count('.') >= 3 else output)}"
