"""Latents in the forms that other code reads: ReStyle's latents.npy, a .pt each image, shards of pairs."""

from __future__ import annotations

import io
import json
import math
import os
import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import webdataset

from generators.files import atomic
from pipeline.config import LABEL_PREFIX, METRICS
from pipeline.errors import ConfigError
from pipeline.latents import LatentDataset
from pipeline.latents.columns import Columns, decoded
from pipeline.latents.names import RowNames
from pipeline.shards.labels import JSON_REST
from pipeline.shards.packing import shard_name
from pipeline.storage import outputs, strict_json

ROW_KEY = ("key", "shard", "sample_index", "face")
EDIT = ("direction", "strength")  # columns of an edited data set
# Told of the rows written since it was last called.
Progress = Callable[[int], None]


@dataclass
class Exported:
    """What was written."""

    n_rows: int = 0
    paths: list[Path] = field(default_factory=list)  # files; of one file each image, the folder


def open_rows(path: str, where: str | None) -> LatentDataset:
    """The rows that came out.

    Raises:
        ConfigError: there are none, or see :class:`LatentDataset`.
    """
    ok = "status == 'ok'"
    rows = LatentDataset(path, where=ok if where is None else (ok, where))
    absent = [name for name in (*ROW_KEY, "latent") if name not in rows.schema.names]
    if absent:
        raise ConfigError(f"{path} has no column {absent[0]!r}; is it the --out of a run?")
    if not len(rows):
        raise ConfigError(
            f"{path} has no successfully inverted rows" + (f" and {where}" if where else "")
        )
    return rows


@dataclass(frozen=True)
class _Call:
    """Pickled as the call of a function; of ``dict``, with items that are fetched as they are written."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()
    items: Iterator[tuple[str, Any]] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments, None, None, self.items


def to_npy(rows: LatentDataset, out: str, progress: Progress = lambda n: None) -> Exported:
    """ReStyle's file: a dictionary, name -> [n_steps, n_styles, w_dim] float32, as ``np.save`` pickles it.

    Rows are written as they are read, but whoever loads the file holds all of them. Without ``--latents
    all`` it holds the last step alone. Arrays are pickled as calls of public functions, for NumPy 2 names a
    module of its own that the NumPy of ReStyle's day does not have.

    Raises:
        ConfigError: ``out`` is no .npy, exists, or cannot be written.
    """
    if not out.endswith(".npy"):
        raise ConfigError(f"--out {out} must end in .npy")
    require_new([outputs.writable_file(out, "latents.npy")])
    steps = "latents_by_step" if "latents_by_step" in rows.schema.names else "latent"
    exported = Exported(paths=[Path(out)])

    def items() -> Iterator[tuple[str, _Call]]:
        for name, columns, row in _named(rows, [steps], progress):
            values = columns[steps].values[row].astype("<f4")  # type: ignore[union-attr]
            shape = values.shape if values.ndim == 3 else (1, *values.shape)
            # An array on bytes cannot be written to; its copy can.
            yield name, _Call(np.array, (_Call(np.ndarray, (shape, "<f4", values.tobytes())),))
            exported.n_rows += 1

    with written(Path(out)) as part, part.open("wb") as file:
        header = {"descr": "|O", "fortran_order": False, "shape": ()}
        np.lib.format.write_array_header_1_0(file, header)
        pickler = pickle.Pickler(file, protocol=4)
        pickler.fast = True  # else it remembers all that it has written
        pickler.dump(_Call(np.array, (_Call(dict, items=items()), "O")))
    return exported


def to_pt(rows: LatentDataset, out: str, progress: Progress = lambda n: None) -> Exported:
    """A file each row, ``<name>.pt``: a tensor [1, n_styles, w_dim] float32, as PTI and StyleCLIP take it.

    Raises:
        ConfigError: the folder is there and not empty, or a file cannot be written.
    """
    require_new(outputs.writable_folder(out).iterdir())
    exported = Exported(paths=[Path(out)])
    for name, columns, row in _named(rows, ["latent"], progress):
        values = columns["latent"].values[row].astype(np.float32)  # type: ignore[union-attr]
        with written(Path(out, f"{name}.pt")) as part:
            buffer = io.BytesIO()  # torch writes a path's name into the file
            torch.save(torch.from_numpy(values)[None], buffer)
            part.write_bytes(buffer.getvalue())
        exported.n_rows += 1
    return exported


def to_pairs(
    rows: LatentDataset, pattern: str, per_shard: int, progress: Progress = lambda n: None
) -> Exported:
    """Shards of pairs: ``<name>.png`` the aligned image, of edits the edited one, ``<name>.npy`` its latent
    [n_styles, w_dim] float32, ``<name>.json`` metrics of the last step, labels and edit.

    Args:
        pattern: path with one %d, such as ``pairs/%06d.tar``.

    Raises:
        ConfigError: no images were saved, a pattern that cannot name shards, or a shard that exists or
            cannot be written.
    """
    names = rows.schema.names
    command, picture = (
        ("edit", "reconstruction") if EDIT[0] in names else ("invert", "aligned_image")
    )
    if picture not in names:
        raise ConfigError(f"no images were saved with the latents; {command} with --save-images")
    firsts = range(0, len(rows), per_shard)
    shards = [shard_name(pattern, index, len(firsts) > 1) for index in range(len(firsts))]
    require_new(map(outputs.writable_file, shards))
    chosen = (*METRICS, *EDIT)
    names_of_json = [n for n in names if n in chosen or n.startswith(LABEL_PREFIX)]
    exported = Exported()
    n_steps = ["n_steps"] if "n_steps" in names else []
    samples = _named(rows, ["latent", picture, *n_steps, *names_of_json], progress)
    for first, shard in zip(firsts, shards, strict=True):
        with (
            written(shard) as part,
            part.open("wb") as file,
            webdataset.TarWriter(file, encoder=False, mtime=0) as tar,
        ):
            for _ in range(first, min(first + per_shard, len(rows))):
                name, columns, row = next(samples)
                tar.write({"__key__": name, **_pair(columns, row, picture, names_of_json)})
                exported.n_rows += 1
        exported.paths.append(shard)
    return exported


def _pair(columns: Columns, row: int, picture: str, names: Sequence[str]) -> dict[str, bytes]:
    image: bytes | None = columns[picture].values[row]  # type: ignore[assignment]
    if image is None:
        raise ConfigError(f"a successfully inverted row has no {picture}; verify the folder")
    latent = io.BytesIO()
    np.save(latent, columns["latent"].values[row].astype(np.float32))  # type: ignore[union-attr]
    extension = "png" if image.startswith(b"\x89PNG") else "jpg"
    text = json.dumps(_said(columns, row, names)).encode()
    return {extension: image, "npy": latent.getvalue(), "json": text}


def _said(columns: Columns, row: int, names: Sequence[str]) -> dict[str, Any]:
    """Labels as the sample had them, and the others; a label that is named like a metric keeps its prefix."""
    rest = _rest(columns[JSON_REST].item(row)) if JSON_REST in names else None
    content = rest if isinstance(rest, dict) else {"json": rest}
    stated = columns["n_steps"].item(row) if "n_steps" in columns else math.nan
    n_steps = None if math.isnan(stated) else int(stated)
    for name in names:
        if name != JSON_REST:
            short = name.removeprefix(LABEL_PREFIX)
            value = _plain(columns[name].item(row), n_steps)
            if value is not None:  # one that did not fit its column stands in the rest
                content[name if short in names else short] = value
    return {name: value for name, value in content.items() if value is not None}


def _rest(text: Any) -> Any:
    """What had no column of its own; a text that is no JSON is a text."""
    try:
        return strict_json.parsed(text or "null")
    except (TypeError, ValueError):
        return str(text)


def _plain(value: Any, n_steps: int | None) -> Any:
    """The last of a row's steps, where a metric has several; None for what is missing."""
    if isinstance(value, torch.Tensor):
        value = value[:n_steps]
        value = value[-1].item() if len(value) else None
    return None if value in (None, "") or value != value else value


def _named(
    rows: LatentDataset, columns: Sequence[str], progress: Progress
) -> Iterator[tuple[str, Columns, int]]:
    """Each row in stored order: its name, and where its values are."""
    edit = [name for name in EDIT if name in rows.schema.names]
    names = RowNames(with_dots=False)
    for table in rows.tables(list(dict.fromkeys([*ROW_KEY, *edit, *columns]))):
        decoded_columns = decoded(table)
        progress(len(table))
        for row in range(len(table)):
            place = {name: decoded_columns[name].item(row) for name in (*ROW_KEY, *edit)}
            yield names.path(place), decoded_columns, row


def require_new(paths: Iterable[Path]) -> None:
    """Refuse to write over what is there.

    Raises:
        ConfigError: one of the paths is.
    """
    for path in paths:
        if os.path.lexists(path):
            raise ConfigError(f"{path} already exists; delete it, or choose another --out")


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """A path to write to, renamed when all is there.

    Raises:
        ConfigError: that fails.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic.written(path) as part:
            yield part
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error}") from None
