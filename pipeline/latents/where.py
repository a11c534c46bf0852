"""Filters on rows: ``status == 'ok' and identity >= 0.4``, read as an expression and never executed."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import ConfigError

COMPARISONS: dict[type[ast.cmpop], Callable[..., Any]] = {
    ast.Eq: pc.equal,
    ast.NotEq: pc.not_equal,
    ast.Lt: pc.less,
    ast.LtE: pc.less_equal,
    ast.Gt: pc.greater,
    ast.GtE: pc.greater_equal,
}
# A text, which stays as it is, or a column in backticks.
TEXT_OR_COLUMN = re.compile(r"""'[^']*'|"[^"]*"|`([^`]+)`""")
GRAMMAR = (
    "it may compare columns with numbers and texts (==, !=, <, <=, >, >=, in [...], is None), joined by "
    "and, or, not; such as \"status == 'ok' and identity >= 0.4\""
)


class RowFilter:
    """A condition on the columns of a table.

    A metric has one value per step: its name means the last step, ``mse[0]`` the first. A column whose name
    is not a word is written in backticks: ```label_hair colour` == 'red'``. A comparison with a missing
    value is not true.

    Raises:
        ConfigError: not such an expression, or a column that does not exist.
    """

    def __init__(self, text: str | Sequence[str], schema: pa.Schema) -> None:
        """
        Args:
            text: an expression, or several that must all hold. Each is read by itself, so that none can leave
                its place among the others.
        """
        texts = [text] if isinstance(text, str) else list(text)
        self._text, self._schema = " and ".join(texts), schema
        self._quoted: dict[str, str] = {}  # column by the word that stands for it
        trees = [self._parsed(one) for one in texts]
        self._tree = trees[0] if len(trees) == 1 else ast.BoolOp(ast.And(), trees)
        names = (n.id for n in ast.walk(self._tree) if isinstance(n, ast.Name))
        self.columns = list(dict.fromkeys(self._quoted.get(name, name) for name in names))
        for name in self.columns:
            if name not in schema.names:
                columns = ", ".join(schema.names)
                raise ConfigError(f"there is no column {name!r} to filter by; there are {columns}")
        # Tried on no rows: what cannot be compared is told before anything is read.
        self.mask(schema.empty_table())

    def _parsed(self, text: str) -> ast.expr:
        words = TEXT_OR_COLUMN.sub(self._word, text.strip())
        try:
            return ast.parse(words, mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise self._refused() from None

    def _word(self, match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0]
        word = f"__column_{len(self._quoted)}__"
        self._quoted[word] = match[1]
        return word

    def _refused(self) -> ConfigError:
        return ConfigError(f"the filter {self._text!r} cannot be read: {GRAMMAR}")

    def mask(self, table: pa.Table) -> np.ndarray:
        """[N] bool: which rows of a table with these columns are meant."""
        try:
            value = self._value(self._tree, table)
            if not isinstance(value, pa.ChunkedArray | pa.Array) or value.type != pa.bool_():
                raise self._refused()
            return value.fill_null(False).to_numpy(zero_copy_only=False)
        except (pa.ArrowException, TypeError, OverflowError, RecursionError) as error:
            first = (str(error).splitlines() or [""])[0]
            raise ConfigError(
                f"the filter {self._text!r} does not fit its columns: {first}"
            ) from None

    def _value(self, node: ast.expr, table: pa.Table) -> Any:
        match node:
            case ast.BoolOp(op=op, values=values):
                join = pc.and_kleene if isinstance(op, ast.And) else pc.or_kleene
                return reduce(join, (self._value(value, table) for value in values))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return pc.invert(self._value(operand, table))
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
                return operator.neg(number)
            case ast.Compare(left=left, ops=ops, comparators=others):
                terms = [left, *others]
                pairs = zip(terms, ops, terms[1:], strict=False)
                return reduce(pc.and_kleene, (self._compare(*pair, table) for pair in pairs))
            case ast.Name(id=name):
                return of_step(table.column(self._quoted.get(name, name)), -1)
            case ast.Subscript(value=ast.Name(id=name), slice=index):
                step = self._value(index, table)
                if type(step) is int:
                    return of_step(table.column(self._quoted.get(name, name)), step)
            case ast.Constant(value=str() | int() | float() as constant):
                return constant
        raise self._refused()

    def _compare(self, left: ast.expr, op: ast.cmpop, right: ast.expr, table: pa.Table) -> Any:
        value = self._value(left, table)
        is_none = isinstance(right, ast.Constant) and right.value is None
        if is_none and isinstance(op, ast.Is | ast.Eq):
            return pc.is_null(value)
        if is_none and isinstance(op, ast.IsNot | ast.NotEq):
            return pc.is_valid(value)
        if isinstance(op, ast.In | ast.NotIn) and isinstance(right, ast.List | ast.Tuple):
            values = [self._value(item, table) for item in right.elts]
            for item in values:
                _require_comparable(value, item)
            choices = pa.array(values)
            is_in = pc.is_in(value, value_set=choices.cast(value.type))
            is_in = is_in if isinstance(op, ast.In) else pc.invert(is_in)
            return pc.and_kleene(is_in, pc.is_valid(value))
        if type(op) not in COMPARISONS:
            raise self._refused()
        other = self._value(right, table)
        _require_comparable(value, other)
        return COMPARISONS[type(op)](_as(other, value), _as(value, other))


def _require_comparable(*sides: Any) -> None:
    """pyarrow would take the text "1" for a number."""
    columns = (pa.ChunkedArray, pa.Array)
    kinds = [side.type if isinstance(side, columns) else pa.scalar(side).type for side in sides]
    if pa.types.is_string(kinds[0]) != pa.types.is_string(kinds[1]):
        raise TypeError(f"{kinds[0]} cannot be compared with {kinds[1]}")


def _as(other: Any, value: Any) -> Any:
    """A number as exact as the column that it is compared with: 0.1 is 0.1 also in float32."""
    if isinstance(value, float) and pa.types.is_floating(getattr(other, "type", pa.null())):
        return pa.scalar(value, other.type)
    return value


def of_step(column: pa.ChunkedArray, step: int = -1) -> pa.ChunkedArray:
    """A column of scalars as it is; of lists, each row's value at a step, counted from its end below 0."""
    if not pa.types.is_list(column.type):
        return column
    array = column.combine_chunks()
    lengths = array.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    places = step + lengths if step < 0 else np.full(len(array), step)
    is_there = (places >= 0) & (places < lengths)
    firsts = np.cumsum(lengths) - lengths  # of each row's values among all of them
    indices = pa.array(np.where(is_there, firsts + places, 0), mask=~is_there)
    return pa.chunked_array([array.flatten().take(indices)])
