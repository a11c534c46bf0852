"""Parquet files with a column of images, as Hugging Face data sets and img2dataset have them, as shards.

A row is a sample. Its key is the column ``key``, else the path that the image brings, else its number. What
else is plain (texts, numbers, dates) is its ``json``, as the .json beside a photo in a tar.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config import FOOTER_KEY
from pipeline.errors import ConfigError, ShardError
from pipeline.records import IMAGE_EXTENSIONS, Sample
from pipeline.shards.folders import is_photo, plain_key
from pipeline.shards.members import Member, sample_of, too_large
from pipeline.storage.filesystems import filesystem, require_regular
from pipeline.storage.urls import redact, redacted_message

ENDING = ".parquet"
MAGIC = b"PAR1"
BATCH_ROWS = 16  # pictures held at once
BUFFER_BYTES = 1 << 20  # of a column that is being read
# Names that a column of images has, the likeliest first; img2dataset names it by its format.
NAMES = ("image", "img", "photo", "picture", *sorted(IMAGE_EXTENSIONS))
TEXT_COLUMNS = ("txt", "caption", "text")  # what is the .txt of a sample
CLASS_COLUMNS = ("cls", "label")  # its .cls
KEY = "key"


@dataclass(frozen=True)
class Columns:
    """Which columns of a file mean what."""

    image: str
    is_struct: bool  # {bytes, path}, of Hugging Face; else bytes
    others: tuple[str, ...]  # plain ones besides the image and the key
    key: bool

    def wanted(self, fields: frozenset[str]) -> list[str]:
        """Those to be read, given the labels that are kept."""
        said = {"status", "error_message"} & set(self.others)  # why a picture is not there
        text, number = self.first(TEXT_COLUMNS), self.first(CLASS_COLUMNS)
        chosen = set(self.others) if "json" in fields else said
        chosen |= {text} if "txt" in fields and text else set()
        chosen |= {number} if "cls" in fields and number else set()
        return [self.image, *([KEY] if self.key else []), *sorted(chosen)]

    def first(self, names: tuple[str, ...]) -> str | None:
        """The first of some names that a plain column has."""
        return next((name for name in names if name in self.others), None)


def is_parquet(url: str) -> bool:
    """Whether this is the name of a Parquet file."""
    return url.partition("?")[0].endswith(ENDING)


def columns_of(schema: pa.Schema, url: str) -> Columns:
    """What the columns of a file mean.

    Raises:
        ConfigError: none holds images, several do, or `restyle` itself wrote the file.
    """
    if FOOTER_KEY in (schema.metadata or {}):
        raise ConfigError(
            f"{redact(url)} holds latents, the output of `restyle invert`, and no photos; pass the photos "
            "(`restyle edit` takes latents)"
        )
    if twice := [name for name in schema.names if schema.names.count(name) > 1]:
        raise ConfigError(f"{redact(url)} has two columns {twice[0]!r}; write it anew with one")
    images = {f.name: f.type for f in schema if _holds_images(f)}
    image = next((name for name in NAMES if name in images), None)
    if image is None and len(images) == 1:
        [image] = images
    if image is None:
        some = f"several columns that may hold images ({', '.join(images)})" if images else ""
        raise ConfigError(
            f"{redact(url)} has {some or 'no column of images'}; pass Parquet files with the bytes of image "
            "files in a column named image or jpg (img2dataset writes them with --output_format parquet), or "
            "leave it out"
        )
    plain = tuple(f.name for f in schema if f.name not in (image, KEY) and _is_plain(f.type))
    has_key = KEY in schema.names and _is_plain(schema.field(KEY).type)
    return Columns(image, pa.types.is_struct(images[image]), plain, has_key)


def require_images(url: str) -> None:
    """Refuse a file that is no input before anything starts.

    Raises:
        ConfigError: it is damaged, or holds no images.
    """
    try:
        with _opened(url) as file:
            columns_of(file.schema_arrow, url)
    except ShardError as error:
        raise ConfigError(str(error)) from None


def samples(url: str, fields: frozenset[str] = frozenset()) -> Iterator[Sample]:
    """Every row of a file as a sample, in order; some rows are in memory at a time.

    Args:
        fields: of ``json``, ``txt`` and ``cls`` those whose bytes are wanted.

    Raises:
        ShardError: it is damaged, or holds no images.
    """
    with _opened(url) as file:
        try:
            columns = columns_of(file.schema_arrow, url)
        except ConfigError as error:
            raise ShardError(str(error)) from None
        taken: set[str] = set()
        width = len(str(max(0, file.metadata.num_rows - 1)))
        index = 0
        for batch in file.iter_batches(BATCH_ROWS, columns=columns.wanted(fields)):
            for row in _rows(batch):
                key = _key(row, columns, f"{index:0{width}}", taken)
                yield sample_of(index, key, _members(row, columns, fields), fields)
                index += 1
        if index != file.metadata.num_rows:
            raise ShardError(
                f"{redact(url)} says that it has {file.metadata.num_rows} rows, and {index} were found; get "
                "the file again"
            )


@contextmanager
def _opened(url: str) -> Iterator[pq.ParquetFile]:
    """A file, to be read inside the block; whatever a library raises there is one sentence."""
    try:
        files, path = filesystem(url)
        require_regular(files, path)
        with files.open_input_file(path) as file:
            yield pq.ParquetFile(file, pre_buffer=False, buffer_size=BUFFER_BYTES)
    except (ConfigError, ShardError):
        raise
    except (pa.ArrowException, OSError, ValueError, UnicodeDecodeError) as error:
        raise ShardError(
            f"{redact(url)} is not a whole Parquet file, or cannot be read: {redacted_message(error, url)}"
        ) from None


def _holds_images(column: pa.Field) -> bool:
    kind = column.type
    if pa.types.is_struct(kind):
        names = [kind.field(i).name for i in range(kind.num_fields)]
        return "bytes" in names and _is_binary(kind.field("bytes").type)
    return _is_binary(kind) and column.name in (*NAMES, "bytes")


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_plain(kind: pa.DataType) -> bool:
    types = pa.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    is_text = types.is_string(kind) or types.is_large_string(kind)
    is_number = types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind)
    return bool(is_text or is_number or _is_said_as_text(kind))


def _is_said_as_text(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_decimal(kind) or types.is_date(kind) or types.is_timestamp(kind))


def _rows(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """Rows of a batch; numbers and dates that JSON lacks as texts, and texts also where they are no UTF-8."""
    columns = [_values(column) for column in batch.columns]
    for values in zip(*columns, strict=True):
        yield dict(zip(batch.schema.names, values, strict=True))


def _values(column: pa.Array) -> Iterator[Any]:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if _is_said_as_text(column.type):
        column = column.cast(pa.string())
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        texts = column.cast(pa.large_binary())
        return (None if t is None else t.decode(errors="backslashreplace") for t in _each(texts))
    return _each(column)


def _each(column: pa.Array) -> Iterator[Any]:
    return (value.as_py() for value in column)


def _key(row: Mapping[str, Any], columns: Columns, number: str, taken: set[str]) -> str:
    """A key that no row before it has."""
    key = row.get(KEY)
    if key is None and columns.is_struct and row[columns.image] is not None:
        path = row[columns.image].get("path")
        if isinstance(path, str) and path:
            path = path.lstrip("/")
            key = plain_key(path) if is_photo(path) else path
    text = number if key in (None, "") else str(key)
    if text in taken:
        text = f"{text}_{number}"
    while text in taken:
        text += "_"
    taken.add(text)
    return text


def _members(row: Mapping[str, Any], columns: Columns, fields: frozenset[str]) -> dict[str, Member]:
    members = {"jpg": _image(row, columns)}
    if "json" in fields:
        values = {name: row[name] for name in columns.others}
        members["json"] = _label("json", json.dumps(values))
    for extension, names in (("txt", TEXT_COLUMNS), ("cls", CLASS_COLUMNS)):
        name = columns.first(names)
        if extension in fields and name is not None and row[name] is not None:
            members[extension] = _label(extension, str(row[name]))
    return members


def _image(row: Mapping[str, Any], columns: Columns) -> Member:
    """The image's bytes as they are; whoever decodes them sees what they are."""
    value = row[columns.image]
    data = value.get("bytes") if columns.is_struct and value is not None else value
    if isinstance(data, bytes):
        error = too_large("jpg", len(data))
        return Member(data) if error is None else Member(error=error)
    said = [str(row[name]) for name in ("status", "error_message") if row.get(name) is not None]
    why = f" ({': '.join(said)})" if said else ""
    if columns.is_struct and value is not None and value.get("path"):
        why = " (only a path, and no file is opened that a data set names; store the images' bytes in it)"
    return Member(error=f"no image in the column {columns.image}{why}"[:500])


def _label(extension: str, text: str) -> Member:
    data = text.encode(errors="backslashreplace")
    error = too_large(extension, len(data))
    return Member(data) if error is None else Member(error=error)
