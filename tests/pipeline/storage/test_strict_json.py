"""JSON of strangers: what comes out breaks nobody later, everything else is refused in a few words."""

import pytest

from pipeline.storage import strict_json


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b'{"a": [1, 2.5, null, true, "\xc3\xa9"]}', {"a": [1, 2.5, None, True, "é"]}),
        ("[-9223372036854775808, 9223372036854775807]", [-(2**63), 2**63 - 1]),
        ('"\\ud83d\\ude00"', "😀"),
        ("[" * 32 + "]" * 32, None),
    ],
)
def test_what_json_is_for(content, value):
    found = strict_json.parsed(content)
    assert value is None or found == value


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"a', "not JSON"),
        (b"", "not JSON"),
        (b"\xff\xfe{", "it is not"),
        ("NaN", "NaN, which is not a number"),
        ('{"a": [-Infinity]}', "-Infinity, which is not"),
        ("[1e999]", "too large"),
        (str(2**63), "more than 64 bits"),
        ("1" * 10_000, "more than 64 bits"),
        ("[" * 33 + "]" * 33, "nested too deeply"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a": ' * 100_000, "nested too deeply"),
        ('"\\ud800"', "half a character"),
        ('{"\\udfff": 1}', "half a character"),
    ],
)
def test_what_breaks_its_readers_is_refused(content, says):
    with pytest.raises(ValueError, match=says) as refused:
        strict_json.parsed(content)
    assert "\n" not in str(refused.value)
