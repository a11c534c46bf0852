"""File names of rows and shards: made of keys, which may hold anything, and different for each row."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from pipeline import storage
from pipeline.storage.urls import path_of

# Bytes of a key's part and of a direction in a name, so that with all that is added it has fewer than 255.
MAX_PART, MAX_DIRECTION = 120, 80
# Halves of letters, other than those that stand for the bytes of a name that is not UTF-8.
_HALVES = re.compile("[\ud800-\udc7f\udd00-\udfff]")


def plain_key(key: str) -> str:
    """A key as people say it: ``tar -C photos .`` puts ``./`` in front of each.

    Of a name that is not UTF-8, rows hold its bytes escaped; from a command line they come as they are.
    """
    whole = _HALVES.sub("?", key.removeprefix("./"))
    return whole.encode(errors="surrogateescape").decode(errors="backslashreplace")


class RowNames:
    """Gives each row a path of its own, the same in every run over the same rows."""

    def __init__(self, with_dots: bool = True) -> None:
        """
        Args:
            with_dots: False for members of a tar, where a WebDataset key ends at the first dot.
        """
        self._with_dots = with_dots
        self._taken: set[str] = set()

    def path(self, row: Mapping[str, Any]) -> str:
        """Such as ``2024/anna_face1_smile+2``, without an extension; nothing leads out of a folder.

        Args:
            row: with ``key``, ``face`` and ``sample_index``, and of an edit ``direction`` and ``strength``.
        """
        parts = [_safe(part) for part in row["key"].split("/")]
        name = (
            "/".join(part for part in parts if part.strip("_")) or f"sample_{row['sample_index']}"
        )
        if row["face"] > 0:
            name += f"_face{row['face']}"
        if row.get("direction") is not None:
            name += f"_{_safe(row['direction'], MAX_DIRECTION)}{row['strength']:+g}"
        if not self._with_dots:
            name = name.replace(".", "_")
        unique, n = name, 2
        # Two keys may become one name here, and one key may stand in several shards, or twice in one.
        while unique.lower() in self._taken:
            unique, n = f"{name}~{n}", n + 1
        self._taken.add(unique.lower())
        return unique


def _safe(part: str, n_bytes: int = MAX_PART) -> str:
    whole = re.sub(r"[^\w. +=@,-]", "_", part).strip(". ").encode(errors="replace")
    return whole[:n_bytes].decode(errors="ignore").rstrip(". ")


def shard_folder(shard: str, output: str, stems: dict[str, str]) -> str:
    """The folder of a shard's pictures: its own name, with the file's hash where two have the same.

    Args:
        output: name of its Parquet file.
        stems: those given so far, each with its shard; added to.
    """
    path = shard if shard.startswith(storage.PIPE) else path_of(shard)
    stem = _safe(PurePosixPath(path).name.split(".tar")[0]) or "_"
    if stems.setdefault(stem, shard) == shard:
        return stem
    return f"{stem}.{_safe(output.split('.')[-3] if output.count('.') >= 3 else output)}"
