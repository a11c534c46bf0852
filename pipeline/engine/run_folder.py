"""What is left to do: shards asked for minus shards committed. Storage is the only memory of a run."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from pyarrow import fs as pafs

from pipeline import storage
from pipeline.config import RUN_FOLDER, difference, fingerprint
from pipeline.errors import ConfigError
from pipeline.records import Task
from pipeline.storage.filesystems import as_config_error
from pipeline.storage.urls import redacted_message

SETTINGS = f"{RUN_FOLDER}/settings.json"
SHARDS = f"{RUN_FOLDER}/shards.json"
# <stem>.<16 digits of the URL's hash>.<8 of the content's version's and the fingerprint's>.parquet
OUTPUT_NAME = re.compile(r"^(.*\.[0-9a-f]{16})\.[0-9a-f]{8}\.parquet$")
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
    path = address if url.startswith(storage.PIPE) else urlsplit(address).path
    name = PurePosixPath(path).name
    earlier = OUTPUT_NAME.match(name)  # its hashes are not carried on
    stem = earlier[1].rpartition(".")[0] if earlier else name.split(".tar")[0]
    stem = re.sub(r"[^\w-]+", "_", stem)[-60:]
    content = _digest(f"{version} {run}", 8)
    return Task(url, version, f"{stem}.{_digest(address, 16)}.{content}.parquet")


def tasks(patterns: Sequence[str], run: str) -> list[Task]:
    """Every shard that the patterns name.

    Args:
        run: the run's fingerprint.

    Raises:
        ConfigError: nothing matches, a named shard does not exist, or two cannot be told apart.
    """
    known = storage.expand(patterns)
    unknown = [url for url, version in known.items() if version is None]
    with ThreadPoolExecutor(N_VERSION_THREADS) as pool:
        asked = dict(zip(unknown, pool.map(storage.version, unknown), strict=True))
    found: dict[str, Task] = {}
    for url, told in known.items():
        version = asked[url] if told is None else told
        new = task(url, version, run)
        if new.output in found:
            raise ConfigError(
                f"two shards are both {storage.redact(url)} once secrets are left out; pass one, or "
                "tell commands apart by a comment: '# 00001.tar'"
            )
        found[new.output] = new
    return list(found.values())


def committed(out: str) -> list[str]:
    """Names of the Parquet files in a folder; [] where there is no folder yet."""
    files, path = storage.filesystem(out)
    with as_config_error("list", out):
        infos = files.get_file_info(pafs.FileSelector(path, allow_not_found=True))
    return sorted(i.base_name for i in infos if i.base_name.endswith(".parquet"))


def pending(asked: Sequence[Task], out: str) -> list[Task]:
    """The tasks without a committed file.

    Raises:
        ConfigError: a shard has changed since it was inverted.
    """
    names = committed(out)
    done = set(names)
    by_shard = {m.group(1): name for name in names if (m := OUTPUT_NAME.match(name))}
    left = [t for t in asked if t.output not in done]
    for t in left:
        stale = by_shard.get(t.output.rsplit(".", 2)[0])
        if stale:
            raise ConfigError(
                f"{storage.redact(t.source)} has changed since it was inverted; delete {stale} in "
                f"{storage.redact(out)} to invert it again, or choose another --out"
            )
    return left


def require_compatible(out: str, settings: Mapping[str, Any], overwrite: bool) -> None:
    """Refuse a folder of another run, or one that cannot be read.

    Args:
        identity: settings and checkpoint hashes; what the fingerprint is of.
        overwrite: another run's files are welcome, for they will be deleted.

    Raises:
        ConfigError: it holds another run's latents; the differences are named.
    """
    files, path = storage.filesystem(out)
    where = storage.redact(out)
    old = read_json(files, f"{path}/{SETTINGS}")
    if overwrite:
        return
    if old is not None and old.get("protocol") != settings.get("protocol"):
        raise ConfigError(
            f"{where} was begun by another release, which computes and measures otherwise (protocol "
            f"{old.get('protocol')}, here {settings.get('protocol')}): it can be read, edited and "
            "reported as ever, but not continued; choose another --out, or pass --overwrite"
        )
    if old is not None and fingerprint(old) != fingerprint(settings):
        raise ConfigError(
            f"{where} holds latents of other settings ({difference(old, settings)}); choose another "
            "--out, or pass --overwrite"
        )
    if old is None and committed(out):
        raise ConfigError(
            f"{where} holds Parquet files of another origin; choose another --out, or pass "
            "--overwrite to delete them"
        )


def require_writable(out: str) -> None:
    """Write and delete a file in the folder, making it if need be.

    Raises:
        ConfigError: that fails.
    """
    files, path = storage.filesystem(out)
    with as_config_error("write to", out):
        files.create_dir(f"{path}/{RUN_FOLDER}")
        probe = f"{path}/{RUN_FOLDER}/probe.{uuid.uuid4().hex}"
        with files.open_output_stream(probe) as stream:
            stream.write(b"x")
        files.delete_file(probe)


def write_run_record(
    out: str, settings: Mapping[str, Any], tasks: Sequence[Task], overwrite: bool
) -> None:
    """Make the folder this run's, and remember what was asked for, for `status` and `verify`.

    Args:
        overwrite: delete what another run left, and forget what it was asked for.

    Raises:
        ConfigError: see :func:`require_compatible`; another run may have come first.
    """
    require_compatible(out, settings, overwrite)
    files, path = storage.filesystem(out)
    known: list[dict[str, str]] = read_json(files, f"{path}/{SHARDS}") or []
    with as_config_error("write to", out):
        if overwrite:
            known = []
            for name in committed(out):
                files.delete_file(f"{path}/{name}")
        by_url = {item["url"]: item for item in known}
        for task in tasks:
            url = storage.redact(task.source)
            by_url[url] = {"url": url, "identity": task.version, "output": task.output}
        _write_json(files, f"{path}/{SETTINGS}", dict(settings))
        _write_json(files, f"{path}/{SHARDS}", list(by_url.values()))


def read_json(files: pafs.FileSystem, path: str) -> Any:
    """A run record, or None where it does not exist.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        if files.get_file_info(path).type != pafs.FileType.File:
            return None
        with files.open_input_stream(path) as stream:
            return json.loads(stream.read())
    except Exception as error:
        raise ConfigError(
            f"cannot read {path} ({redacted_message(error)}); delete it and run again"
        ) from None


def _write_json(files: pafs.FileSystem, path: str, content: Any) -> None:
    # Written beside and moved: a run that is killed here leaves the old record.
    part = f"{path}.{uuid.uuid4().hex}"
    with files.open_output_stream(part) as stream:
        stream.write(_lines(content).encode())
    files.move(part, path)


def _lines(content: Any) -> str:
    """JSON with a line for each item of a list; by hand, for json's own indenting is ten times slower."""
    if not isinstance(content, list):
        return json.dumps(content, indent=0, sort_keys=True)
    return "[\n" + ",\n".join(json.dumps(item, sort_keys=True) for item in content) + "\n]"
