"""What is left to do: shards asked for minus shards committed. Storage is the only memory of a run."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs as pafs

from pipeline import storage
from pipeline.config import ConfigError, difference, fingerprint
from pipeline.records import ShardTask
from pipeline.writer import RUN_FOLDER

# <stem>.<8 digits of the URL's hash><8 of the content identity's>.parquet
OUTPUT_NAME = re.compile(r"^.*\.([0-9a-f]{8})([0-9a-f]{8})\.parquet$")
# Sources are asked for their identity side by side: a HEAD request is all waiting.
N_IDENTITY_THREADS = 32


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def task(url: str, identity: str) -> ShardTask:
    """The task of one shard; its output's name depends on the URL and the content identity alone."""
    path = url if url.startswith(storage.PIPE) else urlsplit(url).path
    stem = re.sub(r"[^\w-]+", "_", PurePosixPath(path).name.split(".tar")[0])[-60:]
    public = storage.public(url)
    return ShardTask(url, identity, f"{stem}.{_digest(public)}{_digest(identity)}.parquet")


def tasks(patterns: Sequence[str]) -> list[ShardTask]:
    """Every shard that the patterns name.

    Raises:
        ConfigError: nothing matches, or a named shard does not exist.
    """
    urls = storage.expand(list(patterns))
    with ThreadPoolExecutor(N_IDENTITY_THREADS) as pool:
        return [
            task(url, found)
            for url, found in zip(urls, pool.map(storage.identity, urls), strict=True)
        ]


def committed(out: str) -> list[str]:
    """Names of the Parquet files in a folder; [] where there is no folder yet."""
    files, path = storage.filesystem(out)
    try:
        infos = files.get_file_info(pafs.FileSelector(path, allow_not_found=True))
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(f"cannot list {storage.public(out)}: {error}") from None
    return sorted(i.base_name for i in infos if i.base_name.endswith(".parquet"))


def pending(asked: Sequence[ShardTask], out: str) -> list[ShardTask]:
    """The tasks without a committed file.

    Raises:
        ConfigError: a shard has changed since it was inverted.
    """
    names = committed(out)
    done = set(names)
    by_url = {m.group(1): name for name in names if (m := OUTPUT_NAME.match(name))}
    left = [t for t in asked if t.output not in done]
    for t in left:
        match = OUTPUT_NAME.match(t.output)
        stale = by_url.get(match.group(1)) if match else None
        if stale:
            raise ConfigError(
                f"{storage.public(t.url)} has changed since it was inverted; delete {stale} in "
                f"{storage.public(out)} to invert it again, or choose another --out"
            )
    return left


def claim(out: str, identity: Mapping[str, Any], overwrite: bool) -> None:
    """Make the folder this run's, or refuse.

    Args:
        identity: settings and checkpoint hashes; what the fingerprint is of.
        overwrite: delete what another run left.

    Raises:
        ConfigError: not writable, or it holds another run's latents; the differences are named.
    """
    files, path = storage.filesystem(out)
    record = f"{path}/{RUN_FOLDER}/settings.json"
    try:
        old = read_json(files, record)
        if overwrite:
            for name in committed(out):
                files.delete_file(f"{path}/{name}")
        elif old is not None and fingerprint(old) != fingerprint(identity):
            raise ConfigError(
                f"{storage.public(out)} holds latents of other settings "
                f"({difference(old, identity)}); choose another --out, or pass --overwrite"
            )
        elif old is None and committed(out):
            raise ConfigError(
                f"{storage.public(out)} holds Parquet files of another origin; choose another --out, "
                "or pass --overwrite to delete them"
            )
        files.create_dir(f"{path}/{RUN_FOLDER}")
        _write_text(files, record, json.dumps(dict(identity), indent=1, sort_keys=True))
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(f"cannot write to {storage.public(out)}: {error}") from None


def record_shards(out: str, asked: Sequence[ShardTask]) -> None:
    """Remember what was asked for, so that `status` and `verify` can tell what is missing."""
    files, path = storage.filesystem(out)
    record = f"{path}/{RUN_FOLDER}/shards.json"
    known = {item["output"]: item for item in read_json(files, record) or []}
    for t in asked:
        known[t.output] = {**asdict(t), "url": storage.public(t.url)}
    _write_text(files, record, json.dumps(list(known.values()), indent=0))


def read_json(files: pafs.FileSystem, path: str) -> Any:
    """A run record, or None where it does not exist."""
    if files.get_file_info(path).type == pafs.FileType.NotFound:
        return None
    with files.open_input_stream(path) as stream:
        return json.loads(stream.read())


def _write_text(files: pafs.FileSystem, path: str, text: str) -> None:
    # Written beside and moved: a run that is killed here leaves the old record.
    with files.open_output_stream(f"{path}.new") as stream:
        stream.write(text.encode())
    files.move(f"{path}.new", path)
