"""A column of a label file with one of the types that labels have: float64, int64, bool or string."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

MISSING = [
    "",
    "NA",
    "N/A",
    "n/a",
    "NaN",
    "nan",
    "NULL",
    "null",
    "None",
]  # cells of a CSV that hold nothing
# Not 007, which is a name, and no number of more digits than fit into 64 bits.
WHOLE = r"^[+-]?(0|[1-9][0-9]{0,17})$"
NUMBER = r"^[+-]?(0|[1-9][0-9]*)?([.][0-9]*)?([eE][+-]?[0-9]+)?$"
A_DIGIT = r"^[^eE]*[0-9]"
BOOLEAN = r"^(?i:true|false)$"


def plain(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """A column as numbers of 64 bits, booleans or texts; None of one that holds something else."""
    type_ = column.type
    if pa.types.is_dictionary(type_):
        return plain(column.cast(type_.value_type))
    if pa.types.is_boolean(type_) or pa.types.is_string(type_):
        return column
    if pa.types.is_null(type_) or pa.types.is_large_string(type_) or pa.types.is_temporal(type_):
        return column.cast(pa.string())
    try:
        if pa.types.is_integer(type_):
            return column.cast(pa.int64())
        if pa.types.is_floating(type_) or pa.types.is_decimal(type_):
            return column.cast(pa.float64())
    except pa.ArrowInvalid:  # whole numbers beyond 64 bits
        return column.cast(pa.string())
    return None


def typed(column: pa.ChunkedArray, wanted: str | None, decimal: str = ".") -> pa.ChunkedArray:
    """A plain column with a type; a cell that does not fit it becomes null.

    Args:
        wanted: the Arrow type; None: that of most cells where they are texts, else what they have.
        decimal: what stands before the decimals in a text.
    """
    if not pa.types.is_string(column.type):
        return column if wanted is None else _cast(column, wanted)
    numbers = column if decimal == "." else pc.replace_substring(column, decimal, ".")
    is_whole = pc.match_substring_regex(numbers, WHOLE)
    is_number = pc.and_(
        pc.match_substring_regex(numbers, NUMBER), pc.match_substring_regex(numbers, A_DIGIT)
    )
    is_boolean = pc.match_substring_regex(column, BOOLEAN)
    kind = wanted or _most(column, is_whole, is_number, is_boolean)
    if kind == "string":
        return column
    fits = {"int64": is_whole, "double": is_number, "bool": is_boolean}[kind]
    values = pc.utf8_lower(column) if kind == "bool" else numbers
    values = pc.if_else(kind != "int64", values, pc.utf8_ltrim(values, "+"))
    return pc.if_else(fits, values, pa.scalar(None, pa.string())).cast(pa.type_for_alias(kind))


def _most(
    column: pa.ChunkedArray,
    is_whole: pa.ChunkedArray,
    is_number: pa.ChunkedArray,
    is_boolean: pa.ChunkedArray,
) -> str:
    n_whole, n_number, n_boolean = (_count(each) for each in (is_whole, is_number, is_boolean))
    # Numbers with and without a point are one type.
    kinds = {"int64": n_whole} if n_whole == n_number else {"double": n_number}
    kinds["bool"] = n_boolean
    kinds["string"] = len(column) - column.null_count - n_number - n_boolean
    best = max(kinds, key=lambda kind: kinds[kind])
    return best if kinds[best] else "string"


def _count(is_such: pa.ChunkedArray) -> int:
    return pc.sum(is_such).as_py() or 0


def _cast(column: pa.ChunkedArray, wanted: str) -> pa.ChunkedArray:
    """Of numbers and booleans; a fraction is no whole number, and nothing but 0 and 1 is a yes or no."""
    type_ = pa.type_for_alias(wanted)
    if wanted == "string":
        return column.cast(type_)
    if pa.types.is_boolean(column.type):
        return column.cast(type_)
    value = column.cast(pa.float64())
    fits = {
        "double": pc.is_valid(value),
        "int64": pc.and_(pc.equal(value, pc.round(value)), pc.less(pc.abs(value), 2.0**53)),
        "bool": pc.or_(pc.equal(value, 0), pc.equal(value, 1)),
    }[wanted]
    kept = pc.if_else(fits, value, pa.scalar(None, pa.float64()))
    return kept.cast(pa.int64()).cast(type_) if wanted == "bool" else kept.cast(type_)
