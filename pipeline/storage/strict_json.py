"""JSON that somebody else may have written or damaged: nothing gets in that breaks whoever uses it later."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

MAX_DEPTH = 32  # of lists and objects in each other; our own records have four
INT64 = range(-(2**63), 2**63)


def parsed(content: bytes | str) -> Any:
    """A JSON text with finite numbers of at most 64 bits and whole characters.

    Raises:
        ValueError: it is something else; the message goes on from "it".
    """
    try:
        value = json.loads(
            content, parse_int=_whole, parse_float=_finite, parse_constant=_no_number
        )
        _require_shallow(value, MAX_DEPTH)
        json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None
    except UnicodeEncodeError:
        raise ValueError("it contains half a character") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error}") from None
    return value


def _whole(digits: str) -> int:
    # Thousands of digits are refused by Python itself, for reading them takes a while.
    number = int(digits) if len(digits) <= len(str(INT64.start)) else None
    if number is None or number not in INT64:
        raise ValueError("it contains a whole number of more than 64 bits")
    return number


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("it contains a number that is too large")
    return number


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"it contains {word}, which is not a number")


def _require_shallow(value: Any, left: int) -> None:
    if isinstance(value, list | dict):
        if not left:
            raise ValueError("it is nested too deeply")
        for item in value.values() if isinstance(value, dict) else value:
            _require_shallow(item, left - 1)
