"""Members of a sample beside the image (.json, .txt, .cls) as typed columns of the latent data set.

All files of a run have the same columns, so they are found before the first shard is inverted: by looking
at some samples. What a .json holds beside them is not lost, it stands in ``label_json``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

from pipeline.config import COLUMN_KEY, LABEL_MEMBERS, LABEL_PREFIX
from pipeline.errors import ShardError
from pipeline.records import Sample
from pipeline.shards import inputs
from pipeline.storage.pace import Limits

JSON_REST = "label_json"  # what has no column of its own, as JSON
# Columns that a field always has, with their Arrow type.
FIXED = {
    "json": {JSON_REST: "string"},
    "txt": {"label_txt": "string"},
    "cls": {"label_cls": "int64"},
}
MAX_COLUMNS = 256  # keys that are different in each sample are values, not names
# Shards (first, middle, last) and samples of each that are looked at for columns.
N_SHARDS, N_SAMPLES = 3, 100
INT64 = range(-(2**63), 2**63)


class LabelError(ValueError):
    """A member that does not hold what its extension says."""


def columns(
    urls: Sequence[str],
    fields: Sequence[str],
    declared: Mapping[str, str],
    limits: Limits | None = None,
) -> dict[str, str]:
    """Label columns of these shards: ``{"label_smile": "double", ...}``, names to Arrow types.

    Args:
        fields: some of :data:`LABEL_MEMBERS`.
        declared: columns of which the user said the type, whether they are seen or not.
        limits: how slow the shards' sources may be; the usual ones if None.

    Another key of a .json has the type that most of its values have. A shard that breaks off says what it
    can: inverting it will tell.
    """
    types = {name: kind for field in fields for name, kind in FIXED[field].items()}
    if "json" not in fields:
        return types
    kinds: dict[str, Counter[str]] = {}
    for value in _some_objects(urls, limits):
        for key, item in value.items():
            kind = _kind(item)
            if kind and COLUMN_KEY.fullmatch(key) and key not in LABEL_MEMBERS:
                kinds.setdefault(LABEL_PREFIX + key, Counter())[kind] += 1
    for name, counts in islice(kinds.items(), MAX_COLUMNS):
        # Numbers with and without a point are one type.
        if counts["double"]:
            counts["double"] += counts.pop("int64", 0)
        types[name] = counts.most_common(1)[0][0]
    return dict(sorted((types | dict(declared)).items()))


def of_settings(settings: Mapping[str, Any]) -> dict[str, str]:
    """The label columns of a run, and their types, from its recorded settings."""
    return {name: kind for name, kind in settings.items() if name.startswith(LABEL_PREFIX)}


def _some_objects(urls: Sequence[str], limits: Limits | None) -> Iterator[dict[str, Any]]:
    chosen = {round(i * (len(urls) - 1) / max(1, N_SHARDS - 1)) for i in range(N_SHARDS)}
    for url in (urls[i] for i in sorted(chosen)):
        try:
            for sample in islice(inputs.samples(url, frozenset({"json"}), limits), N_SAMPLES):
                with suppress(LabelError):  # the row of this sample will say so
                    value = _json(sample.fields.get("json", b"null"))
                    if isinstance(value, dict):
                        yield value
        except ShardError:
            continue


def values(sample: Sample, names: Mapping[str, str]) -> tuple[dict[str, Any], str | None]:
    """Values of a sample's label columns, and what is wrong with its members (None: nothing).

    Args:
        names: label columns with their Arrow types; see :func:`columns`.
    """
    by_column: dict[str, Any] = {}
    errors = []
    for field, data in sorted(sample.fields.items()):
        try:
            by_column |= PARSERS[field](data, names)
        except LabelError as error:
            errors.append(f".{field}: {error}")
    return by_column, "; ".join(errors) or None


def field_of(name: str) -> str:
    """The member in which a label of this name stands: .cls, or a key of the .json."""
    return name if name == "cls" else "json"


def class_of(sample: Sample, name: str) -> str | None:
    """Which class a sample says it is of; None: it says none.

    Args:
        name: ``cls``, or a key of its .json whose value is a text, a whole number, true or false.
    """
    field = field_of(name)
    try:
        data = sample.fields[field]
        value = _from_cls(data, {})["label_cls"] if field == "cls" else _json(data)[name]
    except (KeyError, TypeError, IndexError, LabelError):
        return None
    return class_name(value)


def class_name(value: Any) -> str | None:
    """A label's value as the name of a class; None: it is none, such as a number with a fraction."""
    if isinstance(value, bool):
        return str(value).lower()
    if _kind(value) in ("int64", "double") and _fits(value, "int64"):
        return str(int(value))
    return _text(value) if isinstance(value, str) else None


def _from_json(data: bytes, names: Mapping[str, str]) -> dict[str, Any]:
    value = _json(data)
    if not isinstance(value, dict):
        return {JSON_REST: json.dumps(value)}
    by_column: dict[str, Any] = {}
    rest = {}
    for key, item in value.items():
        wanted = names.get(LABEL_PREFIX + key) if key not in LABEL_MEMBERS else None
        if wanted is None or not (item is None or _fits(item, wanted)):
            rest[key] = item
        elif item is not None:
            by_column[LABEL_PREFIX + key] = PYTHON_TYPE[wanted](item)
    return by_column | ({JSON_REST: json.dumps(rest)} if rest else {})


def _from_txt(data: bytes, names: Mapping[str, str]) -> dict[str, Any]:
    return {"label_txt": _decoded(data)}


def _from_cls(data: bytes, names: Mapping[str, str]) -> dict[str, Any]:
    text = _decoded(data)
    try:
        number = int(text)
    except ValueError:
        raise LabelError(f"{text[:40]!r} is not a whole number") from None
    if number not in INT64:
        raise LabelError(f"{text[:40]!r} is not a number of 64 bits")
    return {"label_cls": number}


PARSERS = {"json": _from_json, "txt": _from_txt, "cls": _from_cls}


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LabelError(f"not UTF-8 text ({error.reason} at byte {error.start})") from None


def _json(data: bytes) -> Any:
    text = _decoded(data)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise LabelError(f"not JSON ({error})") from None


def _kind(value: Any) -> str | None:
    """Arrow type of a scalar; None for null, for what holds others and for what fits nowhere."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int64" if value in INT64 else None
    if isinstance(value, float):
        return "double"
    return "string" if isinstance(value, str) else None


def _fits(value: Any, wanted: str) -> bool:
    kind = _kind(value)
    if wanted == "int64" and kind == "double":  # 1.0 is 1, for JSON as for its writers
        return bool(value.is_integer()) and int(value) in INT64
    return kind == wanted or (kind == "int64" and wanted == "double")


def _text(value: str) -> str:
    """JSON may escape halves of characters, which Parquet cannot hold."""
    return value.encode("utf-8", "backslashreplace").decode()


PYTHON_TYPE: dict[str, Callable[[Any], Any]] = {
    "bool": bool,
    "int64": int,
    "double": float,
    "string": _text,
}
