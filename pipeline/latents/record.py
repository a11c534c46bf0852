"""What files say of a run, judged before anybody uses it: the record in a Parquet footer, and `_run/*.json`.

Whoever sends a folder wrote them, and disks damage them. All that comes out of here has the types that its
readers count on; an entry may still be missing, for earlier releases had fewer.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config import FOOTER_KEY, LABEL_PREFIX, LABEL_TYPES, MAX_STEPS
from pipeline.errors import ConfigError
from pipeline.latents.schema import MAX_SIDE, n_axes, numbers_type, value_shape
from pipeline.storage import redact, strict_json

MAX_SHOWN = 40  # characters of a wrong value that a message repeats


class DamagedRecord(ConfigError):
    """A record of a run that is not what `restyle` writes; the message names the file and the entry."""


@dataclass(frozen=True)
class Kind:
    """What an entry has to be."""

    words: str
    holds: Callable[[Any], bool]


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_line(value: Any) -> bool:
    """Whether a message may repeat this: no line breaks and no codes of a terminal."""
    return isinstance(value, str) and value.isprintable()


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


def _all(value: Any, kind: type, holds: Callable[[Any], bool]) -> bool:
    """Whether this is a list, or an object, of such values."""
    items = value.values() if isinstance(value, dict) else value
    return isinstance(value, kind) and all(holds(item) for item in items)


def _is_shape(value: Any) -> bool:
    is_sizes = _all(value, list, lambda n: type(n) is int and 0 < n <= MAX_SIDE)
    return is_sizes and len(value) in (1, 2)


TEXT = Kind("a text", _is_text)
LINE = Kind("a text of one line", _is_line)
TEXT_OR_NULL = Kind("a text or null", lambda value: value is None or _is_text(value))
TEXTS = Kind("a list of texts", lambda value: _all(value, list, _is_text))
LINES = Kind("a list of texts of one line", lambda value: _all(value, list, _is_line))
COUNT = Kind("a whole number from 0", _is_count)
COUNTS = Kind("whole numbers from 0 by name", lambda value: _all(value, dict, _is_count))
NUMBERS = Kind("a list of numbers", lambda value: _all(value, list, _is_number))
OBJECT = Kind("an object", lambda value: isinstance(value, dict))
WORDS = Kind("texts by name", lambda value: _all(value, dict, _is_line))
BOOLEAN = Kind("true or false", lambda value: isinstance(value, bool))
STEPS = Kind(
    f"a whole number from 1 to {MAX_STEPS}", lambda v: type(v) is int and 1 <= v <= MAX_STEPS
)
SHAPE = Kind("one or two sizes of an array", _is_shape)
COLUMN = Kind(f"one of {', '.join(LABEL_TYPES.values())}", lambda v: v in [*LABEL_TYPES.values()])
PLAIN = Kind(
    "a text, a number or a list of them", lambda v: _is_plain(v) or _all(v, list, _is_plain)
)

ENTRIES = {
    "fingerprint": LINE, "identity": OBJECT, "model": TEXT, "then": TEXT_OR_NULL,
    "generator": TEXT_OR_NULL, "shard": TEXT, "source": TEXT, "input_identity": TEXT,
    "photos": TEXTS, "photos_version": LINE,
    "n_samples": COUNT, "n_rows": COUNT, "n_worse": COUNT, "n_by_status": COUNTS,
    "latent_avg": TEXT, "latent_avg_shape": SHAPE, "metric_protocol": LINE, "versions": WORDS,
}  # fmt: skip
SETTINGS = {
    "steps": STEPS, "metrics": LINES, "latents": LINE, "latent_dtype": LINE, "align": LINE,
    "faces": LINE, "precision": LINE, "identity_steps": LINE, "save_images": BOOLEAN,
    "keep_fields": TEXTS, "labels_on": LINE, "class_label": LINE, "protocol": COUNT, "edit_directions": TEXTS,
    "edit_strengths": NUMBERS, "edit_images": TEXT, "edit_protocol": COUNT, "edit_source": TEXT,
    "landmark_window": COUNT, "latent_window": COUNT, "video_gap": COUNT,
    "edit_where": TEXT, "edit_pivot": COUNT, "edit_pivot_settings": TEXT,
}  # fmt: skip
HASH_SUFFIX = "_sha256"
SHARD_ENTRIES = ("url", "identity", "output")  # of each shard in `_run/shards.json`


def footer(metadata: pq.FileMetaData, path: str = "a Parquet file") -> dict[str, Any]:
    """Our record in a file's footer; {} in a file of another origin.

    Args:
        path: of the file, for messages.

    Raises:
        DamagedRecord: it is none of ours, or the columns beside it are not.
    """
    content = (metadata.metadata or {}).get(FOOTER_KEY)
    if content is None:
        return {}
    try:
        record = strict_json.parsed(content)
        _require(record, ENTRIES, "")
        _require_settings(record.get("identity", {}), "identity.")
        latent_avg(record)
        if record:
            _require_columns(metadata.schema.to_arrow_schema())
            _require_rows(metadata)
    except ValueError as error:
        raise DamagedRecord(
            f"{redact(path)} is damaged, or of a different version ({error}); get the file again, or move it "
            "out of the folder"
        ) from None
    return record


def latent_avg(record: Mapping[str, Any]) -> np.ndarray | None:
    """A model's average latent from a record, [w_dim] or [n_styles, w_dim] float32; None where it has none.

    Raises:
        ValueError: it is damaged.
    """
    if "latent_avg" not in record:
        return None
    shape = record.get("latent_avg_shape")
    if shape is None:
        raise ValueError("latent_avg comes without latent_avg_shape")
    try:
        content = base64.b64decode(record["latent_avg"], validate=True)
    except ValueError:
        raise ValueError("latent_avg is not base64") from None
    if len(content) != 4 * math.prod(shape):
        raise ValueError(f"latent_avg has {len(content)} bytes, which do not make {shape} numbers")
    return np.frombuffer(content, "<f4").astype(np.float32).reshape(shape)


def require_present(present: Collection[str], wanted: Iterable[str], path: str) -> None:
    """Refuse a file that lacks an entry of its record, or a column.

    Raises:
        ConfigError: it does, as one that another program wrote.
    """
    missing = [name for name in wanted if name not in present]
    if missing:
        raise ConfigError(
            f"{redact(path)} was not written by `restyle invert`, or by a different version ({missing[0]} is "
            "missing); move it out of the folder"
        )


def require_columns(columns: pa.Schema, wanted: Iterable[str], path: str) -> None:
    """Refuse a file that lacks a column, or that may have gaps in one where `restyle` leaves none.

    Raises:
        ConfigError: it is such.
    """
    names = list(wanted)
    require_distinct(columns, redact(path))
    require_present(columns.names, names, path)
    for name in names:
        if name in _WHOLE and columns.field(name).nullable:
            raise DamagedRecord(
                f"{redact(path)} may have gaps in its column {name}, which `restyle` does not write; get the "
                "file again, or move it out of the folder"
            )


def require_distinct(columns: pa.Schema, name: str) -> None:
    """Refuse a file, known by a name, that has two columns of one name.

    Raises:
        ConfigError: it has.
    """
    if twice := [column for column in columns.names if columns.names.count(column) > 1]:
        raise ConfigError(f"{name} has two columns {twice[0]!r}; write it anew with one of them")


def require_settings(settings: Any, path: str) -> dict[str, Any]:
    """The settings of a run as its folder keeps them, if they are such.

    Raises:
        DamagedRecord: they are not.
    """
    try:
        _require_settings(settings, "")
    except ValueError as error:
        raise DamagedRecord(
            f"{path} does not hold the settings of a run ({error}); copy it again from where the folder came "
            "from, or choose another --out"
        ) from None
    return settings


def require_shards(shards: Any, path: str) -> list[dict[str, str]]:
    """What was asked for of a run as its folder keeps it, if it is such.

    Raises:
        DamagedRecord: it is not.
    """
    wrong = "it is not a list" if not isinstance(shards, list) else ""
    for number, shard in enumerate(shards if not wrong else ()):
        if not isinstance(shard, dict) or not all(_is_text(shard.get(n)) for n in SHARD_ENTRIES):
            wrong = f"number {number + 1} lacks {', '.join(SHARD_ENTRIES)}"
            break
    if wrong:
        raise DamagedRecord(
            f"{path} does not list the shards of a run ({wrong}); delete it, and run the same `restyle "
            "invert` again, which writes it anew"
        )
    return shards


def _require(record: Any, kinds: Mapping[str, Kind], prefix: str) -> None:
    if not isinstance(record, dict):
        raise ValueError(f"it is {_shown(record)}, not an object with entries")
    for name, kind in kinds.items():
        if name in record and not kind.holds(record[name]):
            raise ValueError(f"{prefix}{name} is {_shown(record[name])}, not {kind.words}")


def _require_settings(settings: Any, prefix: str) -> None:
    _require(settings, SETTINGS, prefix)
    others = {name: _kind_of(name) for name in settings if name not in SETTINGS}
    _require(settings, others, prefix)
    if ("edit_directions" in settings) != ("edit_strengths" in settings):
        raise ValueError(f"{prefix}edit_directions and {prefix}edit_strengths go together")


def _kind_of(setting: str) -> Kind:
    if setting.endswith(HASH_SUFFIX):
        return TEXT
    return COLUMN if setting.startswith(LABEL_PREFIX) else PLAIN


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def _nested(n: int) -> Callable[[pa.DataType], bool]:
    return lambda type_: n_axes(type_) == n and pa.types.is_floating(numbers_type(type_))


def _is_string(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_))


def _is_binary(type_: pa.DataType) -> bool:
    return bool(pa.types.is_binary(type_) or pa.types.is_large_binary(type_))


_TYPES: tuple[tuple[Callable[[pa.DataType], bool], str, tuple[str, ...]], ...] = (
    (_is_string, "texts", ("key", "shard", "status", "error", "precision", "direction")),
    (
        pa.types.is_signed_integer,
        "whole numbers",
        ("sample_index", "face", "n_faces", "best_step", "n_steps", "track", "width", "height"),
    ),
    (pa.types.is_boolean, "true or false", ("is_interpolated",)),
    (pa.types.is_floating, "numbers", ("strength", "detection_score")),
    (_is_binary, "pictures", ("aligned_image", "reconstruction")),
    (_nested(1), "lists of numbers", ("mse", "psnr", "ms_ssim", "lpips", "identity")),
    (_nested(2), "arrays of two dimensions", ("latent", "landmarks", "quad")),
    (_nested(3), "arrays of three dimensions", ("latents_by_step",)),
)
SHAPES = {"landmarks": (68, 2), "quad": (4, 2)}
# In these is no gap, by their definition in the schema: who reads them need not look.
_WHOLE = ("key", "shard", "sample_index", "face", "n_faces", "status", "direction", "strength")


def _require_columns(columns: pa.Schema) -> None:
    """Raise a ValueError unless the columns that we write are of the types that we write."""
    names = columns.names
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"there are two columns {twice[0]}")
    for is_right, words, own in _TYPES:
        for name in own:
            if name in names and not is_right(columns.field(name).type):
                raise ValueError(f"the column {name} is {columns.field(name).type}, not {words}")
    for name, shape in SHAPES.items():
        if name in names and value_shape(columns.field(name)) not in (None, shape):
            raise ValueError(f"an array of the column {name} is not {shape[0]} by {shape[1]}")


def _require_rows(metadata: pq.FileMetaData) -> None:
    """Raise a ValueError where the number of rows is not what the row groups have."""
    n_rows = sum(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups))
    if n_rows != metadata.num_rows:
        raise ValueError(f"its row groups have {n_rows} rows, and it says {metadata.num_rows}")
