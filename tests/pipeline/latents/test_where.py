"""Filters: what they mean, and that nothing in them is executed."""

import pyarrow as pa
import pytest

from pipeline.errors import ConfigError
from pipeline.latents.where import RowFilter

TABLE = pa.table(
    {
        "status": ["ok", "ok", "no_face", "ok"],
        "identity": pa.array([[None, 0.5], [0.1, 0.7], None, [0.2, None]], pa.list_(pa.float32())),
        "smile": [1, 2, None, -4],
        "hair colour": ["red", "`red`", None, "x"],
        "latent": pa.array([[0.0, 1.0]] * 4, pa.list_(pa.float32(), 2)),
    }
)


def rows(text, table=TABLE):
    return RowFilter(text, TABLE.schema).mask(table).nonzero()[0].tolist()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("status == 'ok'", [0, 1, 3]),
        ("status != 'ok'", [2]),
        ("identity >= 0.6", [1]),
        ("identity < 0.6", [0]),  # what is missing compares with nothing
        ("not identity < 0.6", [1]),
        ("identity[0] > 0", [1, 3]),
        ("identity[-2] > 0", [1, 3]),
        ("identity[7] > 0", []),
        ("identity is None", [2, 3]),
        ("identity != None and smile < 2", [0]),
        ("status == 'ok' and (smile == 1 or smile < -3)", [0, 3]),
        ("1 < smile <= 2", [1]),
        ("smile in [1, -4]", [0, 3]),
        ("status in ('no_face', 'not_finite')", [2]),
        ("smile not in [1]", [1, 3]),
        ("2 == smile", [1]),
        ("identity == 0.7", [1]),  # as exact as float32
        ("0.7 <= identity", [1]),
        ("identity[0] in [0.1, 3]", [1]),
        ("`hair colour` == '`red`' or `hair colour` == \"x\" and `smile` < 0", [1, 3]),
    ],
)
def test_which_rows(text, found):
    assert rows(text) == found
    assert rows(text, TABLE.slice(0, 0)) == []


def test_only_its_columns_are_read():
    assert RowFilter("smile > 1 and identity[0] > smile", TABLE.schema).columns == [
        "smile",
        "identity",
    ]


@pytest.mark.parametrize(
    "text",
    ["", "smile", "smile >", "__import__('os')", "status.upper() == 'OK'", "smile + 1 > 2",
     "[x for x in smile]", "identity['a'] > 0", "smile == f'{1}'", "1 == 1", "(" * 500, "lambda: 1",
     "smile in identity", "smile[0][0] > 1", "`hair colour`` == 1", "``"],
)  # fmt: skip
def test_what_is_no_filter_is_refused(text):
    with pytest.raises(ConfigError, match="cannot be read: it may compare columns|no column"):
        RowFilter(text, TABLE.schema)


def test_columns_that_are_not_there_or_do_not_fit_are_named():
    with pytest.raises(ConfigError, match="no column 'identiy' to filter by; there are status, id"):
        RowFilter("identiy > 1", TABLE.schema)
    for text in ("status > 1", "latent > 1", "status in [1, 2]", "smile == 'a'"):
        with pytest.raises(ConfigError, match="does not fit its columns"):
            RowFilter(text, TABLE.schema)


def test_a_number_that_no_column_holds_is_refused():
    with pytest.raises(ConfigError, match="does not fit its columns"):
        RowFilter(f"identity > {10**30}", TABLE.schema).mask(TABLE)
