"""Image files for tests, whole and hostile."""

import io
import struct
import zlib

from PIL import Image


def saved(picture, fmt, **options):
    buffer = io.BytesIO()
    picture.save(buffer, fmt, **options)
    return buffer.getvalue()


def grey_png(level):
    """16 x 16 pixels of one grey."""
    return saved(Image.new("RGB", (16, 16), (level,) * 3), "png")


def png_of_size(width, height):
    """A PNG header that promises any size, followed by almost nothing."""

    def chunk(kind, body):
        checksum = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body
