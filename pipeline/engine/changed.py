"""Finished shards whose content is another now, and photos that are finished in a shard of another name.

Photos that are added to a folder, or taken out, make its shards begin elsewhere; named with others, they are
another shard. Either would bring their rows a second time.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from pipeline import storage
from pipeline.errors import ConfigError
from pipeline.records import Task
from pipeline.shards import photo_shards
from pipeline.shards.photo_shards import PhotoShard
from pipeline.storage.listing import real_paths

N_NAMED = 3  # files in a message
# <stem>.<16 digits of the URL's hash>.<8 of the content's version's and the fingerprint's>.parquet
OUTPUT_NAME = re.compile(r"^(.*\.[0-9a-f]{16})\.[0-9a-f]{8}\.parquet$")


def files(tasks: Sequence[Task], done: AbstractSet[str]) -> dict[str, str]:
    """Files of shards that had another content, each with what is said of it.

    Args:
        tasks: what is asked for now.
        done: names of the outputs that are there.
    """
    by_shard = {m[1]: name for name in sorted(done) if (m := OUTPUT_NAME.match(name))}
    old = {t: by_shard.get(t.output.rsplit(".", 2)[0]) for t in tasks if t.output not in done}
    return {name: has_changed(storage.redact(t.source)) for t, name in old.items() if name}


def has_changed(address: str) -> str:
    """What is said of a shard whose content is another now."""
    return f"{address} has changed since it was inverted"


def photos_again(
    tasks: Sequence[Task],
    records: Sequence[Mapping[str, str]],
    done: AbstractSet[str],
    footer_of: Callable[[str], Mapping[str, Any]],
) -> dict[str, str]:
    """Files that hold photos of the tasks, of shards that nobody asks for now, each with what is said of it.

    Args:
        tasks: what is asked for now.
        records: what was asked for before, with what nobody asks for any more.
        done: names of the outputs that are there.
        footer_of: the record in the footer of an output.

    Raises:
        ConfigError: such a file also holds photos that are there and not asked for, whose rows would go.
    """
    unasked = done - {task.output for task in tasks}
    others = {
        r["output"]: r["url"]
        for r in records
        if r["output"] in unasked and photo_shards.is_photos(r["url"])
    }
    shards = [PhotoShard.of(t.source) for t in tasks if photo_shards.is_photos(t.source)]
    if not (others and shards):
        return {}
    wanted = {*real_paths(path for shard in shards for path in shard.paths)}
    found: dict[str, str] = {}
    for name, url in others.items():
        root = photo_shards.root_of(url)  # where they are now; the footer knows where they were
        old = {*real_paths(os.path.join(root, each) for each in _names(footer_of(name)))}
        left = sorted(path for path in old - wanted if os.path.exists(path))
        if left and old & wanted:
            raise ConfigError(
                f"{min(old & wanted)} was inverted before, together with {left[0]} ({name}); leave it out, "
                "name all of its photos again with --redo-changed, or choose another --out"
            )
        if old & wanted:
            found[name] = f"photos of {url} are asked for in another shard now"
    return found


def perhaps_moved(
    tasks: Sequence[Task],
    records: Sequence[Mapping[str, str]],
    done: AbstractSet[str],
    footer_of: Callable[[str], Mapping[str, Any]],
) -> list[tuple[str, str]]:
    """Folders of finished photos that are not there any more, each with one that has photos of their names.

    It may be the same folder, moved and changed since, or another whose cameras number photos alike: names
    alone do not tell. (One that was only moved is known by the sizes and dates of its files.)

    Args:
        tasks, records, done, footer_of: as for :func:`photos_again`.
    """
    new = [t for t in tasks if photo_shards.is_photos(t.source) and t.output not in done]
    if not new:
        return []
    shards = [PhotoShard.of(t.source) for t in new]
    found: dict[str, str] = {}
    for record in records:
        if record["output"] not in done or not photo_shards.is_photos(record["url"]):
            continue
        root = photo_shards.root_of(record["url"])
        if os.path.isdir(root) or root in found:
            continue
        names = _names(footer_of(record["output"]))
        for shard in shards:
            if shard.root != root and any(file.name in names for file in shard.files):
                found[root] = shard.root
    return list(found.items())


def _names(record: Mapping[str, Any]) -> set[str]:
    """The photos that a footer lists, as paths below their folder."""
    return {*map(photo_shards.unquoted, record.get("photos", ()))}


def refusal(changed: Mapping[str, str], folder: str, has_flag: bool) -> str:
    """What is said of files that are to be made again: by their names, and how.

    Args:
        changed: as :func:`files` gives them, one at least.
        folder: as it is shown.
        has_flag: whether the command has --redo-changed.
    """
    n_more = len(changed) - 1
    names = ", ".join(list(changed)[:N_NAMED])
    names += f" and {len(changed) - N_NAMED} more" if len(changed) > N_NAMED else ""
    more = f" (and {n_more} more like it)" if n_more else ""
    flag = "pass --redo-changed, which does so, " if has_flag else ""
    return (
        f"{next(iter(changed.values()))}{more}; delete {names} in {folder} to invert "
        f"{'them' if n_more else 'it'} again, {flag}or choose another --out"
    )
