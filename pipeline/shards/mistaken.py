"""Files that are given as shards by mistake: what they are by their first bytes, and what to do."""

from __future__ import annotations

import codecs
from contextlib import suppress
from pathlib import PurePath

N_START = 16
PHOTO_STARTS = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  ")
PHOTO_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"mif1", b"hevc")
VIDEO_STARTS = (b"\x1aE\xdf\xa3", b"FLV\x01", b"\0\0\x01\xba", b"\0\0\x01\xb3")
ZIP_START = b"PK\x03\x04"
PARQUET_START = b"PAR1"


def is_another(path: str) -> bool:
    """Whether a file that is called a tar begins as a photo, an archive or a Parquet file."""
    return _start(path).startswith((*PHOTO_STARTS[:2], PARQUET_START, ZIP_START))


def sentence(path: str) -> str:
    """What a file is that is no input, and what to do with it."""
    start = _start(path)
    brand = start[8:12] if start[4:8] == b"ftyp" else b""
    is_webp = start[:4] == b"RIFF" and start[8:12] == b"WEBP"
    if start.startswith(PHOTO_STARTS) or is_webp or brand in PHOTO_BRANDS:
        return f"{path} is a photo by its content, but not by its name; rename it, such as to x.jpg"
    if start.startswith(VIDEO_STARTS) or brand or start[8:11] == b"AVI":
        return (
            f"{path} is a video; pack its frames first: restyle pack {PurePath(path).name} "
            "'shards/%06d.tar', then invert these shards with --video"
        )
    if start.startswith(ZIP_START):
        return f"{path} is a zip archive; unpack it and pass the folder"
    if start.startswith(PARQUET_START):
        return (
            f"{path} is a Parquet file by its content, but not by its name; rename it to x.parquet"
        )
    if not start:
        return f"{path} is empty, or cannot be read; leave it out"
    with suppress(UnicodeDecodeError):
        codecs.getincrementaldecoder("utf-8")().decode(start)  # its end may be half a letter
        if b"\0" not in start:
            return (
                f"{path} is a text file, not a tar; leave it out, or if it lists inputs, one per line, pass "
                f"@{path}"
            )
    return (
        f"{path} is not a tar; leave it out: inputs are tars, Parquet files with images, photos, and folders "
        "of these"
    )


def _start(path: str) -> bytes:
    with suppress(OSError), open(path, "rb") as file:
        return file.read(N_START)
    return b""
