"""Shards that lie elsewhere than when they were inverted: in a copied project, on another disk, by a link.

An output's name is made of its shard's address, so that such a shard would be inverted a second time, beside
its rows. It is known by its name, size and date (or etag): what was done stays done. Photos where they lie
are known by the names, sizes and dates of all files alone, so that their folder may be called anything.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import PurePosixPath

from pipeline import storage
from pipeline.engine.changed import has_changed
from pipeline.records import Task
from pipeline.shards import photo_shards
from pipeline.storage.listing import real_paths
from pipeline.storage.urls import path_of

Record = Mapping[str, str]  # what was asked for: url, identity and output
# A size alone is none: shards are rounded to 10 KiB.
TELLING = re.compile(r"size=\d* \w+=.+")


@dataclass
class Found:
    """The tasks of a run, with what earlier runs did of them under other addresses."""

    tasks: list[Task] = field(default_factory=list)  # those moved have the output that is there
    moved: list[tuple[str, str]] = field(default_factory=list)  # finished: from where to where
    gone: set[str] = field(default_factory=set)  # addresses that are asked for no more
    # Files of shards that have changed since, to be deleted, each with what is said of it.
    changed: dict[str, str] = field(default_factory=dict)
    # Of the name and size of a finished one, but not its date: a copy, or another shard.
    unsure: list[tuple[str, str]] = field(default_factory=list)
    # Folders of photos that are gone, and those with photos of the same names: see `changed.perhaps_moved`.
    perhaps_moved: list[tuple[str, str]] = field(default_factory=list)


def find(tasks: Sequence[Task], records: Sequence[Record], done: AbstractSet[str]) -> Found:
    """Which of the tasks are shards of the records by another address.

    Args:
        tasks: what is asked for now.
        records: what was asked for before.
        done: names of the outputs that are there.
    """
    if all(task.output in done for task in tasks):
        return Found(list(tasks))
    asked = {storage.redact(task.source) for task in tasks}
    outputs = {task.output for task in tasks}
    own = {record["url"]: record for record in records}
    others = [r for r in records if r["url"] not in asked and r["output"] not in outputs]
    earlier = _Earlier(others, done)
    found = Found()
    for task, real in zip(tasks, real_paths(task.source for task in tasks), strict=True):
        url = storage.redact(task.source)
        record = own.get(url)
        if task.output not in done and record and record["output"] in done:
            if record["identity"] == task.version:
                task = replace(task, output=record["output"])
            else:
                found.changed[record["output"]] = has_changed(url)
        elif task.output not in done and (record := earlier.take(url, task.version, real)):
            found.gone.add(record["url"])
            if record["output"] in done:
                found.moved.append((record["url"], url))
                task = replace(task, output=record["output"])
        elif task.output not in done and (other := earlier.similar(url, task.version)):
            found.unsure.append((other, url))
        found.tasks.append(task)
    return found


class _Earlier:
    """Records of shards that are not asked for by their address now; each is found once."""

    def __init__(self, records: Sequence[Record], done: AbstractSet[str]) -> None:
        self._done = done
        self._taken: set[str] = set()
        self._by_path: dict[str, list[Record]] = defaultdict(list)
        self._by_content: dict[tuple[str, str], list[Record]] = defaultdict(list)
        self._by_size: dict[tuple[str, str], str] = {}
        for record, real in zip(records, real_paths(r["url"] for r in records), strict=True):
            name = _name(record["url"])
            self._by_path[real].append(record)
            self._by_content[name, record["identity"]].append(record)
            if record["output"] in done:
                self._by_size[name, _size(record["identity"])] = record["url"]

    def take(self, url: str, version: str, real: str) -> Record | None:
        """The record of a shard, rather one with a file; None where there is none, or several."""
        if not TELLING.fullmatch(version):
            return None
        same_file = [r for r in self._by_path.get(real, ()) if r["identity"] == version]
        for records in (same_file, self._by_content.get((_name(url), version), [])):
            left = [r for r in records if r["output"] not in self._taken]
            left = [r for r in left if r["output"] in self._done] or left
            # Of several copies, the one in folders of the same names.
            alike = [_n_alike(r["url"], url) for r in left]
            best = [r for r, n in zip(left, alike, strict=True) if n == max(alike)]
            if len(best) == 1:
                self._taken.add(best[0]["output"])
                return best[0]
        return None

    def similar(self, url: str, version: str) -> str | None:
        """The address of a finished shard of the same name and size."""
        return self._by_size.get((_name(url), _size(version))) if version else None


def _name(url: str) -> str:
    if photo_shards.is_photos(url):
        return photo_shards.PHOTOS
    return PurePosixPath(path_of(url) if storage.is_remote(url) else url).name


def _size(identity: str) -> str:
    return identity.partition(" ")[0]


def _n_alike(one: str, other: str) -> int:
    """How many names two paths share at their ends."""
    pairs = zip(reversed(one.split("/")), reversed(other.split("/")), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
