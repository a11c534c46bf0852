"""HEIC, the format of iPhones: read with a package that not everybody has."""

import importlib.util
import re
from collections.abc import Callable
from typing import Any

from PIL import Image

HOW_TO_READ = "pip install 'restyle-batch[heic]' on every node, or convert them to JPEG"

_BRANDS = re.compile(rb"heic|heix|heim|heis|hevc|hevx|mif1|msf1")


def is_heic(head: bytes) -> bool:
    """Whether the first bytes of a file announce HEIC. AVIF has the same box, with other brands."""
    brands = head[8:64]
    return (
        head[4:8] == b"ftyp" and not re.search(rb"avi[fs]", brands) and bool(_BRANDS.search(brands))
    )


def is_installed() -> bool:
    """Whether the package that reads HEIC is here. It is not loaded."""
    return importlib.util.find_spec("pillow_heif") is not None


def reader() -> Callable[..., Any] | None:
    """What opens HEIC as one of Pillow's readers; None without the package."""
    try:
        import pillow_heif  # optional, and 20 MB that only such photos need
    except ImportError:
        return None
    if "HEIF" not in Image.OPEN:
        # One thread: photos are decoded by as many tasks as there are cores.
        pillow_heif.register_heif_opener(decode_threads=1, thumbnails=False)
    return Image.OPEN["HEIF"][0]
