"""Files that every viewer shows although something beside their pixels is wrong, made readable.

Nothing here guesses at pixels: a file whose pixel data are not whole is not mended.

- PNG: metadata with a wrong checksum, cut off, or larger than Pillow unpacks is left out, as libpng
  does. What tells orientation and colours is kept where it is sound.
- JPEG: an end marker that is missing is appended, if the pixel data before it are complete.
"""

import re
import struct
import zlib
from collections.abc import Iterator

from PIL import PngImagePlugin

try:
    import simplejpeg
except ImportError:  # no wheel for this machine: then nothing tells whether a scan is complete
    simplejpeg = None

_PNG_PIXELS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT"}
"""What pixels are made of; transparency is, too. A wrong checksum here is damage."""

_METADATA = {
    *(b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"cICP", b"mDCV"),
    *(b"cLLI", b"pHYs", b"tIME", b"bKGD", b"hIST", b"sBIT", b"sPLT", b"acTL", b"fcTL", b"fdAT"),
}
"""What may be left out although it is damaged. Any other kind may be pixels under a damaged name."""

_ORIENTING = {b"XML:com.adobe.xmp", b"Raw profile type exif", b"exif"}
"""Keywords of the texts in which Pillow finds an orientation."""

_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by the kind of colours
_ADAM7 = [
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
]
"""First column and row of each pass of an interlaced PNG, and the steps to the next."""

_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_JPEG_END = b"\xff\xd9"
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)  # within pixel data
_HUFFMAN_FRAMES = {0xC0, 0xC1, 0xC2}  # baseline, extended, progressive
_COLOURS = {1: "GRAY", 3: "RGB", 4: "CMYK"}


def mended(name: str, data: bytes, max_pixels: int) -> bytes | None:
    """A copy that decodes to the pixels that the file holds; None where none can be had.

    name: the format, in Pillow's names. max_pixels: larger pictures are not looked at.
    Whether all pixels are there is checked here: decoders make up what is missing of a JPEG, and rows that a
    PNG ends before.
    """
    if name == "PNG":
        return _mended_png(data, max_pixels)
    if name == "JPEG":
        return _mended_jpeg(data, max_pixels)
    return None


def _mended_png(data: bytes, max_pixels: int) -> bytes | None:
    kept, pixels = [data[:8]], []
    text_room = PngImagePlugin.MAX_TEXT_CHUNK  # of all that are kept: few bytes may unpack to many
    for kind, chunk, is_sound in _chunks(data):
        body = chunk[8:-4]
        if kind == b"IEND":
            break
        if not is_sound:
            if kind not in _METADATA:
                return None
        elif kind in _PNG_PIXELS:
            kept.append(chunk)
            pixels += [body] if kind == b"IDAT" else []
        elif kind[:1].isupper():
            return None  # an unknown kind of pixel data
        elif kind == b"eXIf" or (kind == b"iCCP" and _is_small(_packed(body))):
            kept.append(chunk)
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            size = _size_of_orienting_text(kind, body, text_room)
            if size is not None:
                text_room -= size
                kept.append(chunk)
    size = _size_of_pixels(kept[1][8:-4]) if len(kept) > 1 else 0
    # Never more than 8 bytes a pixel, and few more for the rows.
    is_whole = 0 < size <= 10 * max_pixels and _is_whole_stream(pixels, size)
    return b"".join([*kept, _PNG_END]) if is_whole else None


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
    """Kind and bytes of each chunk, and whether it is whole and its checksum right."""
    place = 8
    while place + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        if not kind.isalpha():
            return  # whatever this is, it is no chunk
        end = place + 12 + length
        chunk = data[place:end]
        is_whole = end <= len(data)
        yield kind, chunk, is_whole and zlib.crc32(chunk[4:-4]).to_bytes(4, "big") == chunk[-4:]
        place = end


def _packed(profile: bytes) -> bytes | None:
    """The compressed part of an iCCP chunk: a name, its end, the method 0, then the profile."""
    _, end, rest = profile.partition(b"\0")
    return rest[1:] if end and rest[:1] == b"\0" else None


def _is_small(packed: bytes | None) -> bool:
    return packed is not None and _unpacked_size(packed, PngImagePlugin.MAX_TEXT_CHUNK) is not None


def _unpacked_size(packed: bytes, limit: int) -> int | None:
    """The size of a zlib stream's content; None for one that is damaged or larger than the limit."""
    stream = zlib.decompressobj()
    try:
        size = len(stream.decompress(packed, max(limit, 1)))
    except zlib.error:
        return None
    return size if stream.eof else None


def _size_of_pixels(header: bytes) -> int:
    """How many bytes the pixels of a PNG unpack to; 0 for a header that no PNG has."""
    if len(header) != 13 or header[9] not in _PNG_CHANNELS:
        return 0
    width, height, n_bits, colours = struct.unpack_from(">IIBB", header)
    passes = _ADAM7 if header[12] else [(0, 0, 1, 1)]
    sizes = [
        (-(-(width - left) // right), -(-(height - top) // down))
        for left, top, right, down in passes
    ]
    depth = n_bits * _PNG_CHANNELS[colours]
    return sum(h * (1 + (w * depth + 7) // 8) for w, h in sizes if w > 0 and h > 0)


def _is_whole_stream(parts: list[bytes], expected: int) -> bool:
    """Whether parts together are a zlib stream up to its checksum, of just so much content."""
    stream, size = zlib.decompressobj(), 0
    try:
        for packed in parts:
            while packed and not stream.eof and size <= expected:
                size += len(stream.decompress(packed, 1 << 20))
                packed = stream.unconsumed_tail
    except zlib.error:
        return False
    return stream.eof and size == expected


def _size_of_orienting_text(kind: bytes, body: bytes, limit: int) -> int | None:
    """How long a text unpacks; None for one that says nothing of the orientation or is too long."""
    keyword, _, rest = body.partition(b"\0")
    if keyword not in _ORIENTING:
        return None
    if kind == b"zTXt":
        return _unpacked_size(rest[1:], limit) if rest[:1] == b"\0" else None
    if kind == b"iTXt" and rest[:1] != b"\0":
        parts = rest[2:].split(b"\0", 2)  # language, translated keyword, text
        is_packed = rest[1:2] == b"\0" and len(parts) == 3
        return _unpacked_size(parts[2], limit) if is_packed else None
    return len(rest) if len(rest) <= limit else None


def _mended_jpeg(data: bytes, max_pixels: int) -> bytes | None:
    n_components = _components_of_complete_scans(data, max_pixels)
    if simplejpeg is None or n_components not in _COLOURS:
        return None
    whole = data + _JPEG_END
    try:
        # libjpeg fills what is missing with grey, and says so; that is an error of this call.
        simplejpeg.decode_jpeg(whole, _COLOURS[n_components], strict=True)
    except ValueError:
        return None
    return whole


def _components_of_complete_scans(data: bytes, max_pixels: int) -> int | None:
    """How many colours a JPEG has that stops without an end marker, but not before its last scan.

    None for every other file. A progressive file that lacks its last scans is a coarse picture, which
    decoders take for a whole one: each coefficient of each colour must have come with all its bits.
    """
    missing: set[tuple[int, int]] = set()
    n_components, place = 0, 2
    while (marker := _JPEG_MARKER.match(data, place)) is not None:
        kind, start = data[place + 1], place + 4
        length = int.from_bytes(data[place + 2 : start], "big")
        body = data[start : start + length - 2]
        if kind == _JPEG_END[1] or length < 2 or len(body) < length - 2:
            return None
        place = start + length - 2
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):  # not tables: a frame
            if n_components or kind not in _HUFFMAN_FRAMES or len(body) < 6:
                return None
            height, width, n_components = struct.unpack_from(">HHB", body, 1)
            if height * width > max_pixels:
                return None
            missing = {(id_, k) for id_ in body[6::3] for k in range(64)}
        elif kind == 0xDA:  # a scan: its colours, its first and last coefficient, its lowest bit
            *_, first, last, bits = body
            if bits & 15 == 0:
                missing -= {(id_, k) for id_ in body[1:-3:2] for k in range(first, last + 1)}
            marker = _JPEG_MARKER.search(data, place)
            if marker is None:
                return None if missing else n_components
            place = marker.start()
    return None
