"""What is left to do: shards asked for minus shards committed. Storage is the only memory of a run."""

from __future__ import annotations

import fnmatch
import glob
import hashlib
import json
import os
import re
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath
from typing import Any

import braceexpand
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.config import RUN_FOLDER, require_same_settings
from pipeline.engine import changed, moved
from pipeline.engine.changed import OUTPUT_NAME
from pipeline.engine.moved import Found
from pipeline.errors import ConfigError
from pipeline.latents.files import opened
from pipeline.latents.record import footer, require_settings, require_shards
from pipeline.records import Task
from pipeline.shards import inputs
from pipeline.shards.photo_shards import quoted
from pipeline.storage import lists
from pipeline.storage.filesystems import as_config_error
from pipeline.storage.folder import Folder
from pipeline.storage.urls import PHOTOS, path_of

SETTINGS = f"{RUN_FOLDER}/settings.json"
SHARDS = f"{RUN_FOLDER}/shards.json"
# Tells Hugging Face's datasets what the data are; it would take the JSON below `_run/` for rows.
CARD = ".huggingface.yaml"
CARD_CONTENT = b"""configs:
- config_name: default
  data_files: "*.parquet"
"""
MIN_PARQUET_BYTES = 12  # its magic twice, and the length of its footer
# Sources are asked for their version side by side: a HEAD request is all waiting.
N_VERSION_THREADS = 32


def _digest(text: str, n: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:n]


def task(url: str, version: str, run: str) -> Task:
    """The task of one shard; its output's name follows from its arguments alone.

    Args:
        url: a tar, or a Parquet file that an earlier run put out.
        version: of the shard's content.
        run: the run's fingerprint.
    """
    address = storage.redact(url)
    path = address if url.startswith(storage.PIPE) else path_of(address)
    name = PurePosixPath(path).name
    earlier = OUTPUT_NAME.match(name)  # its hashes are not carried on
    stem = earlier[1].rpartition(".")[0] if earlier else name.split(".tar")[0]
    stem = re.sub(r"[^\w-]+", "_", stem)[-60:]
    content = _digest(f"{version} {run}", 8)
    return Task(url, version, f"{stem}.{_digest(address, 16)}.{content}.parquet")


def tasks(patterns: Sequence[str], run: str, without: Sequence[str] = ()) -> list[Task]:
    """Every shard that the patterns name; see :func:`tasks_of`.

    Raises:
        ConfigError: nothing matches, or what is no input.
    """
    return tasks_of(inputs.expand(patterns).versions, run, without)


def tasks_of(
    versions: Mapping[str, str | None], run: str, without: Sequence[str] = ()
) -> list[Task]:
    """A task for each shard.

    Args:
        versions: of the shards by their addresses, None where they are to be asked for.
        run: the run's fingerprint.
        without: patterns of shards that are not meant.

    Raises:
        ConfigError: a shard does not exist, or two cannot be told apart.
    """
    if without:
        left_out = set(named(without, versions))
        versions = {url: same for url, same in versions.items() if url not in left_out}
    unknown = [url for url, version in versions.items() if version is None]
    with ThreadPoolExecutor(N_VERSION_THREADS) as pool:
        answers = dict(zip(unknown, pool.map(inputs.version, unknown), strict=True))
    by_output: dict[str, Task] = {}
    for url, listed in versions.items():
        version = answers[url] if listed is None else listed
        new = task(url, version, run)
        if new.output in by_output:
            raise ConfigError(
                f"two shards have the same address, {storage.redact(url)}, once secrets are removed; pass "
                "only one, or tell commands apart with a comment: '# 00001.tar'"
            )
        by_output[new.output] = new
    return list(by_output.values())


def named(patterns: Sequence[str], urls: Iterable[str]) -> list[str]:
    """Those of the addresses that patterns name, whether there is such a file or not."""
    wanted = []
    for pattern in lists.flattened(patterns):
        path = pattern if storage.is_remote(pattern) else os.path.abspath(pattern)
        # As it stands, and with what braces and stars mean in it.
        wanted += [glob.escape(path), path]
        if not storage.is_remote(pattern):  # a photo, or the photos of a folder
            wanted += [glob.escape(f"{PHOTOS}{quoted(path)}") + end for end in ("", "/*")]
        with suppress(braceexpand.UnbalancedBracesError):  # type: ignore[attr-defined]
            wanted += braceexpand.braceexpand(path)
    is_meant = re.compile("|".join(map(fnmatch.translate, wanted)) or "(?!)").match
    return [url for url in urls if is_meant(storage.redact(url))]


@dataclass(frozen=True)
class Planned:
    """What is left of what was asked for."""

    tasks: list[Task]  # all of it
    pending: list[Task]  # those without a file
    found: Found  # of shards that moved since


class RunFolder(Folder):
    """The --out of a run: Parquet files that are its result, and below ``_run/`` what was asked for."""

    def committed(self) -> list[str]:
        """Names of its Parquet files; [] where there is no folder yet.

        Raises:
            ConfigError: it cannot be listed.
        """
        return [name for name in self.names() if name.endswith(".parquet")]

    def settings(self) -> dict[str, Any] | None:
        """Settings and checkpoint hashes of its run, as recorded by the driver; None: no run.

        Raises:
            ConfigError: they cannot be read.
        """
        found = self.read_json(SETTINGS)
        return None if found is None else require_settings(found, f"{self}/{SETTINGS}")

    def shards(self) -> list[dict[str, str]] | None:
        """What was asked for, with the keys ``url``, ``identity`` and ``output``; None: no run.

        Raises:
            ConfigError: it cannot be read.
        """
        found = self.read_json(SHARDS)
        return None if found is None else require_shards(found, f"{self}/{SHARDS}")

    def opened(self, name: str) -> AbstractContextManager[pq.ParquetFile]:
        """One of its Parquet files, to be read inside the block.

        Raises:
            ConfigError: it is damaged, or gone.
        """
        return opened(self.files, self.at(name))

    def pending(
        self, tasks: Sequence[Task], found: Found | None = None, redo_changed: bool | None = None
    ) -> list[Task]:
        """The tasks without a committed file.

        Args:
            found: of shards that moved; is told of files that are to be deleted.
            redo_changed: shards that have changed are pending too.

        Raises:
            ConfigError: a shard has changed since it was inverted, or its file cannot be one.
        """
        sizes = {name: n for name, n in self.sizes().items() if name.endswith(".parquet")}
        for task in tasks:
            if sizes.get(task.output, MIN_PARQUET_BYTES) < MIN_PARQUET_BYTES:
                raise ConfigError(
                    f"{task.output} in {self} is not a Parquet file ({sizes[task.output]} bytes); delete it "
                    "and run the same command again"
                )
        found = found or Found()
        found.changed |= self._changed(tasks, found, set(sizes))
        if found.changed and not redo_changed:
            has_flag = redo_changed is not None
            raise ConfigError(changed.refusal(found.changed, str(self), has_flag))
        return [t for t in tasks if t.output not in sizes]

    def _changed(self, tasks: Sequence[Task], found: Found, done: set[str]) -> dict[str, str]:
        @cache  # both look at photos, and a footer is a request of a store
        def footer_of(name: str) -> dict[str, Any]:
            with self.opened(name) as parquet:
                return footer(parquet.metadata, name)

        records = [r for r in self.shards() or [] if r["url"] not in found.gone]
        again = changed.photos_again(tasks, records, done, footer_of)
        found.perhaps_moved = changed.perhaps_moved(tasks, records, done, footer_of)
        return {**again, **changed.files(tasks, done)}

    def planned(
        self, tasks: list[Task], overwrite: bool = False, redo_changed: bool | None = None
    ) -> Planned:
        """The tasks, and those without a file; shards that moved since they were inverted have theirs.

        Args:
            overwrite: what is there will be deleted.
            redo_changed: shards that have changed since are to be inverted again, and their files deleted;
                None: the command does not do that.

        Raises:
            ConfigError: see :meth:`pending`.
        """
        if overwrite:
            return Planned(tasks, tasks, Found())
        found = moved.find(tasks, self.shards() or [], set(self.committed()))
        return Planned(found.tasks, self.pending(found.tasks, found, redo_changed), found)

    def forget(self, patterns: Sequence[str], dry_run: bool = False) -> list[str]:
        """Take back shards that were asked for and have no file; returns their addresses.

        Raises:
            ConfigError: no such shard was asked for, or one is finished.
        """
        records, done = self.shards() or [], set(self.committed())
        urls = set(named(patterns, [record["url"] for record in records]))
        for record in records:
            if record["url"] in urls and record["output"] in done:
                raise ConfigError(
                    f"{record['url']} is finished; to take its rows away, delete {record['output']} in "
                    f"{self} and --forget it then"
                )
        if not dry_run and urls:
            with as_config_error("write to", self.address):
                self.write(SHARDS, _lines([r for r in records if r["url"] not in urls]))
        return sorted(urls)

    def require_compatible(
        self,
        settings: Mapping[str, Any],
        overwrite: bool,
        advice: Callable[[Mapping[str, Any]], str] = lambda _: "pass --overwrite",
    ) -> None:
        """Refuse a folder of another run, or one that cannot be read.

        Args:
            settings: settings and checkpoint hashes; what the fingerprint is of.
            overwrite: another run's files are welcome, for they will be deleted.
            advice: what to do besides choosing another --out, given the settings of the folder.

        Raises:
            ConfigError: it contains latents of a different run; the differences are named.
        """
        old = self.settings()
        if overwrite:
            return
        if old is not None and old.get("protocol") != settings.get("protocol"):
            raise ConfigError(
                f"{self} was begun by another release, which computes and measures differently (protocol "
                f"{old.get('protocol')}, here {settings.get('protocol')}): it can be read, edited and "
                "reported as before, but not continued; choose another --out, or pass --overwrite"
            )
        if old is not None:
            holds = f"{self} contains latents from a run"
            require_same_settings(old, settings, holds, advice(old))
        if old is None and self.committed():
            raise ConfigError(
                f"{self} contains Parquet files that no run recorded; choose another --out, or pass "
                "--overwrite to delete them"
            )

    def require_writable(self) -> None:
        """Write and delete a file in the folder, making it if need be.

        Raises:
            ConfigError: that fails.
        """
        with as_config_error("write to", self.address):
            self.files.create_dir(self.at(RUN_FOLDER))
            probe = f"{RUN_FOLDER}/probe.{uuid.uuid4().hex}"
            with self.files.open_output_stream(self.at(probe)) as stream:
                stream.write(b"x")
            self.delete(probe)

    def write_run_record(
        self,
        settings: Mapping[str, Any],
        tasks: Sequence[Task],
        overwrite: bool,
        gone: AbstractSet[str] = frozenset(),
        changed: Iterable[str] = (),
    ) -> None:
        """Make the folder this run's, and remember what was asked for, for `status` and `verify`.

        Args:
            gone: addresses that are asked for no more, because the shards moved.
            changed: names of files that are to be deleted, because their shards have changed.
            overwrite: delete what another run left, and forget what it was asked for.

        Raises:
            ConfigError: see :meth:`require_compatible`; another run may have come first.
        """
        self.require_compatible(settings, overwrite)
        settings_json = _lines(dict(settings))
        with as_config_error("write to", self.address):
            if not self.write_first(SETTINGS, settings_json):
                self.require_compatible(settings, overwrite)  # it may have come a moment ago
            records = [] if overwrite else self.shards() or []
            if overwrite:
                for name in self.committed():
                    self.delete(name)
            outdated = set(changed)
            for name in outdated & set(self.committed()):
                self.delete(name)
            by_url = {
                item["url"]: item
                for item in records
                if item["url"] not in gone and item["output"] not in outdated
            }
            asked: dict[str, str] = {}
            for task in tasks:
                url = storage.redact(task.source)
                by_url[url] = {"url": url, "identity": task.version, "output": task.output}
                asked[task.output] = url
            # One that moved to and fro is one.
            left = [r for r in by_url.values() if asked.get(r["output"], r["url"]) == r["url"]]
            if self.read(CARD) is None:  # somebody may have written a better one
                self.write(CARD, CARD_CONTENT)
            self.write(SETTINGS, settings_json)
            self.write(SHARDS, _lines(left))


def _lines(content: Any) -> bytes:
    """JSON with a line for each item of a list; by hand, for json's own indenting is ten times slower."""
    if not isinstance(content, list):
        return json.dumps(content, indent=0, sort_keys=True).encode()
    items = ",\n".join(json.dumps(item, sort_keys=True) for item in content)
    return f"[\n{items}\n]".encode()
