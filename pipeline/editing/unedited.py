"""The latents that edits were made of, read again from the file that was edited.

An edited row does not hold them. As with photos (`pipeline.shards.photos`), whoever wrote the file chose the
address in it: what is read lies where the user says, or is the very file of this machine that was edited.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from pipeline import storage
from pipeline.editing.rows import as_dicts
from pipeline.errors import ConfigError
from pipeline.latents import footer
from pipeline.latents.files import opened
from pipeline.latents.names import plain_key
from pipeline.latents.record import require_columns

LOCAL = "file://"
COLUMNS = ["key", "sample_index", "face", "latent"]
N_ROWS = 64  # read at once
ADVICE = "; pass --source with the folder or address of the latents that were edited"


class UneditedUnusable(ConfigError):
    """A file that edits were made of, and that is not at hand; the message says what to do."""


class UneditedLatents:
    """Latents without their edits, of the rows of one edited file; asked for in stored order.

    Args:
        record: footer of the edited file.
        source: folder or address of the files that were edited, as the user says; None: see
            :func:`trusted`.

    Raises:
        UneditedUnusable: the file is not read, or is another one.
    """

    def __init__(self, record: Mapping[str, Any], source: str | None) -> None:
        self._url = trusted(record, source)
        self._record = record
        with opened(*storage.filesystem(self._url)) as file:
            self._require_same(footer(file.metadata, self._url))
            require_columns(file.schema_arrow, COLUMNS, self._url)
        self._rows = self._stored()
        self._row: dict[str, Any] = {"sample_index": -1, "face": -1}

    def of(self, row: Mapping[str, Any]) -> np.ndarray:
        """The latent [n_styles, w_dim] that an edited row was made of; no earlier row than the last.

        Raises:
            UneditedUnusable: it is not there.
        """
        wanted = row["sample_index"], row["face"]
        while (self._row["sample_index"], self._row["face"]) < wanted:
            found = next(self._rows, None)
            if found is None:
                break
            self._row = found
        is_there = (self._row["sample_index"], self._row["face"]) == wanted
        latent = self._row.get("latent")
        if not is_there or self._row["key"] != row["key"] or latent is None:
            raise self._changed(plain_key(row["key"]))
        if latent.shape != row["latent"].shape:
            raise self._changed(plain_key(row["key"]))
        return latent

    def _stored(self) -> Iterator[dict[str, Any]]:
        with opened(*storage.filesystem(self._url)) as file:
            for batch in file.iter_batches(N_ROWS, columns=COLUMNS):
                yield from as_dicts(batch)

    def _require_same(self, own: Mapping[str, Any]) -> None:
        edited_from = self._record.get("identity", {}).get("edit_source")
        is_same = own.get("shard") == self._record.get("shard")
        if own.get("fingerprint") != edited_from or not is_same:
            raise UneditedUnusable(
                f"{storage.redact(self._url)} is not the file that was edited{ADVICE}"
            )

    def _changed(self, key: str) -> UneditedUnusable:
        return UneditedUnusable(
            f"{storage.redact(self._url)} has no latent of {key}, so it has changed since it was edited"
            f"{ADVICE}"
        )


def trusted(record: Mapping[str, Any], source: str | None) -> str:
    """Where to read the file that an edited one names in its footer.

    Args:
        source: folder or address that the user gave; of the footer only the file's name is used then. None:
            it must be a file of this machine, unchanged since it was edited.

    Raises:
        UneditedUnusable: it is neither.
        ConfigError: ``source`` is a command, which would be given a name of the data set.
    """
    stated = str(record.get("source", ""))
    name = PurePosixPath(stated.partition("?")[0]).name
    if not name.endswith(".parquet") or "::" in name:
        raise UneditedUnusable("the edits do not say which file they were made of")
    if source is not None:
        if source.startswith(storage.PIPE):
            raise ConfigError("--source takes a folder or an address of latents, not a command")
        is_remote = storage.is_remote(source)
        address, mark, options = source.partition("?") if is_remote else (source, "", "")
        return f"{address.rstrip('/')}/{name}{mark}{options}"
    path = stated.removeprefix(LOCAL)
    if storage.is_remote(path):
        why = "is not opened, because a data set may name any address"
    elif not os.path.isfile(path):
        why = "is not on this machine"
    elif storage.version(path) != record.get("input_identity"):
        why = "has changed since it was edited"
    else:
        return path
    raise UneditedUnusable(f"{storage.redact(stated)} {why}{ADVICE}")
