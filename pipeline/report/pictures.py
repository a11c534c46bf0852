"""The pictures of the shown rows: source photos from the shards, crops, and reconstructions."""

from __future__ import annotations

import base64
import io
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from pipeline.errors import ConfigError, ShardError
from pipeline.faces import images
from pipeline.faces.prepare import cropped
from pipeline.shards.photos import Recorded, SourcePhotos, SourceUnusable
from pipeline.storage.urls import name_of

# Longest sides in pixels. The page shows source photos at about half of it, for sharp screens.
SOURCE_SIDE = 440
FACE_SIDE = 256
WEBP_QUALITY = 82
MAX_NAME = 80  # characters of a shard's name in a note
# Shards that may fail before the others are not tried: each may wait a minute for its server.
MAX_UNREADABLE = 3


@dataclass(frozen=True)
class Thumbnail:
    """A picture inside the page."""

    uri: str  # data:
    width: int
    height: int


@dataclass
class Pictures:
    """What there is to see of one row."""

    source: Thumbnail | None = None
    crop: Thumbnail | None = None


def thumbnail(image_u8: np.ndarray, side: int) -> Thumbnail:
    """[H, W, 3] uint8, reduced where a side is longer than ``side``."""
    picture = Image.fromarray(image_u8)
    picture.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=3.0)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=WEBP_QUALITY, method=4)
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return Thumbnail(f"data:image/webp;base64,{encoded}", *picture.size)


def saved(data: bytes | None) -> Thumbnail | None:
    """A picture that the run kept in a column; None also where it is damaged."""
    picture = None if data is None else images.decode_or_none(data)
    return None if picture is None else thumbnail(picture, FACE_SIDE)


def collect(
    rows: Sequence[dict[str, Any]],
    input_size: tuple[int, int],
    notes: list[str],
    photos: str | None = None,
    recorded: Callable[[str], Recorded] = lambda _: Recorded(),
) -> list[Pictures]:
    """Source photo and crop of each row; what is not available is left out and named in ``notes``.

    Args:
        photos: folder or address of the shards; None: only unchanged files of this machine are read.
        recorded: what is known of a shard, by its address.
    """
    pictures = [Pictures(crop=saved(row.get("aligned_image"))) for row in rows]
    by_shard: dict[str, list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        by_shard[row["shard"]].append(i)
    unreadable: list[str] = []
    for n_tried, (url, wanted) in enumerate(by_shard.items()):
        try:
            shard = SourcePhotos(url, images.decode_or_none, photos, *recorded(url))
            for i in sorted(wanted, key=lambda i: rows[i]["sample_index"]):
                if (photo := shard.of(rows[i])) is not None:
                    _add(pictures[i], photo, rows[i], input_size)
        except (ShardError, ConfigError) as error:
            # The page travels; where the shard lies does not.
            name = name_of(url)[:MAX_NAME]
            reason = error.why if isinstance(error, SourceUnusable) else "can no longer be read"
            unreadable.append(f"{name} {reason}")
            if len(unreadable) == MAX_UNREADABLE and n_tried + 1 == MAX_UNREADABLE:
                break
    if unreadable:
        notes.append(
            f"Some source photos are missing here: {unreadable[0]}"
            + (f", and {n_more:,} more." if (n_more := len(unreadable) - 1) else ".")
        )
    return pictures


def _add(
    pictures: Pictures, photo: np.ndarray, row: dict[str, Any], input_size: tuple[int, int]
) -> None:
    pictures.source = thumbnail(photo, SOURCE_SIDE)
    if pictures.crop is None and row["status"] == "ok":
        with suppress(ValueError):  # a quad that is none: the photo alone is shown
            pictures.crop = thumbnail(cropped(photo, row.get("quad"), input_size), FACE_SIDE)
