"""Which pictures are whole, yet of a kind that is not read: the way out is to convert them."""

import io
import re
import struct
from collections.abc import Mapping
from typing import Any

from PIL import TiffImagePlugin, features

from pipeline.faces import heic

_OF_READERS = re.compile(
    "unknown pixel mode|unknown data organization|not yet supported|cannot handle |"
    "Unsupported BMP (header|pixel|bitfields|compression)|unable to determine J2K image mode"
)
"""What Pillow's readers say of a header that they understand and have no pixels for."""

_SAMPLE_FORMATS = {1: "", 2: " signed", 3: " floating-point", 5: " complex", 6: " complex"}
_JPEG_ENDS = b"\xff\xd9"


def sentence(kind: str) -> str:
    """What is said of a picture of such a kind."""
    return (
        "the file seems whole, but this kind of picture is not supported: "
        f"{kind}; convert it to PNG"
    )


def way_to_read(extension: str) -> str | None:
    """What to do so that files of this extension are read on this machine; None where they are."""
    if extension in ("heic", "heif") and not heic.is_installed():
        return heic.HOW_TO_READ
    if extension == "avif" and not features.check("avif"):
        return "pip install 'pillow>=11.3' on every node, or convert them to JPEG"
    return "convert them to PNG" if extension == "svg" else None


def kind_of(name: str, data: bytes, error: Exception) -> str | None:
    """What kind of picture a reader refused; None where the file may be damaged.

    name: the format, in Pillow's names. error: what its reader raised.
    """
    if name == "PNG" and data[12:16] == b"CgBI":
        return "a PNG in the form that Apple's developer tools make"
    if not _OF_READERS.search(str(error)):
        return None
    if name == "TIFF":
        return _tiff(data)
    if name == "BMP":
        return "a BMP of an uncommon form" if len(data) >= _u32(data, 2) else None
    if name not in ("JPEG", "JPEG2000") or not data.rstrip(b"\0").endswith(_JPEG_ENDS):
        return None
    what = re.search(r"(\d+)-(bit|layer)", str(error))
    shape = (
        {"bit": "{} bits per colour", "layer": "{} colours"}[what[2]].format(what[1])
        if what
        else ""
    )
    return f"a JPEG of {shape}" if shape else f"a {name} of uncommon colours"


def _u32(data: bytes, place: int) -> int:
    return struct.unpack_from("<I", data, place)[0]


def _tiff(data: bytes) -> str | None:
    """The samples of a TIFF whose strips or tiles all lie within the file."""
    try:
        tags = _tags(data)
        offsets = tags.get(TiffImagePlugin.STRIPOFFSETS) or tags[TiffImagePlugin.TILEOFFSETS]
        counts = tags.get(TiffImagePlugin.STRIPBYTECOUNTS) or tags[TiffImagePlugin.TILEBYTECOUNTS]
        ends = [offset + count for offset, count in zip(offsets, counts, strict=True)]
        bits = tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,))
        n_samples = int(tags.get(TiffImagePlugin.SAMPLESPERPIXEL, len(bits)))
        form = _SAMPLE_FORMATS.get(tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,))[0], "")
    except Exception:  # tags of any type and number: such a file is no sound one
        return None
    if not ends or max(ends) > len(data):
        return None
    return f"a TIFF of {n_samples} x {int(bits[0])}-bit{form} samples"


def _tags(data: bytes) -> Mapping[int, Any]:
    """Of the first page."""
    directory = TiffImagePlugin.ImageFileDirectory_v2(data[:8])
    file = io.BytesIO(data)
    file.seek(directory.next)
    directory.load(file)
    return directory
