"""Names as people write them: in a list that is passed as ``@FILE``, with quotes or ``~``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence

from pipeline.errors import ConfigError

# A name in double quotes, in which two stand for one, or what there is up to the next comma, or line.
BETWEEN_COMMAS = re.compile(r'\s*(?:"((?:[^"]|"")*)"\s*|([^,]*))(?:,|\Z)')
LINE = re.compile(r'[ \t]*(?:"((?:[^"]|"")*)"[ \t]*|([^\r\n]*))(?:\r\n|\r|\n|\Z)')
BYTE_ORDER_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


def between_commas(text: str) -> list[str]:
    """``'a b,"c, d"'`` -> ``["a b", "c, d"]``: as a line of CSV."""
    return _names(BETWEEN_COMMAS, text)


def in_file(path: str) -> list[str]:
    """The names in a file, one per line; quoted, a name may end with a space, or hold a line end.

    Names that are not UTF-8 come as Python has them of the file system. Windows may have written the file.

    Raises:
        ConfigError: it cannot be read, or names nothing.
    """
    try:
        with open(os.path.expanduser(path), "rb") as file:
            content = file.read()
        encoding = next((e for m, e in BYTE_ORDER_MARKS.items() if content.startswith(m)), "utf-8")
        text = content.decode(encoding, "surrogateescape" if encoding != "utf-16" else "strict")
    except OSError as error:
        raise ConfigError(f"cannot read the list {path} ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ConfigError(f"the list {path} is damaged; save it as UTF-8 text") from None
    names = _names(LINE, text)
    if not names:
        raise ConfigError(f"the list {path} is empty; write one name a line into it")
    return names


def flattened(patterns: Sequence[str]) -> Iterator[str]:
    """Patterns, those of ``@FILE`` in its place, with the home folder for ``~``; what exists stays."""
    for pattern in patterns:
        is_list = pattern.startswith("@") and not _is_here(pattern)
        for name in in_file(pattern[1:]) if is_list else [pattern]:
            yield name if _is_here(name) else os.path.expanduser(name)


def _is_here(pattern: str) -> bool:
    """Whether a name begins with one of the working directory: a folder may be called ``~`` or ``@x``."""
    return os.path.lexists(pattern.partition("/")[0])


def _names(one: re.Pattern[str], text: str) -> list[str]:
    names = []
    for found in one.finditer(text):
        quoted, plain = found.groups()
        name = plain.strip() if quoted is None else quoted.replace('""', '"')
        if name:
            names.append(name)
    return names
