"""Pictures in rows and columns with words above them: what edits do, at one look."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

GAP = 6
MARGIN = 14
INK, PAPER = (29, 31, 36), (255, 255, 255)


def sheet(
    columns: Sequence[str], rows: Sequence[Sequence[np.ndarray]], cell: int = 128
) -> np.ndarray:
    """One picture [H, W, 3] uint8 of many.

    Args:
        columns: what stands above each.
        rows: pictures [h, w, 3] uint8 of any size, one a column.
        cell: width that each gets.
    """
    height = round(cell * rows[0][0].shape[0] / rows[0][0].shape[1])
    font = ImageFont.load_default(size=max(10, cell // 9))
    top = MARGIN + cell // 9 + GAP
    size = (
        2 * MARGIN + len(columns) * (cell + GAP) - GAP,
        top + len(rows) * (height + GAP) - GAP + MARGIN,
    )
    canvas = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(canvas)
    for x, word in enumerate(columns):
        left = MARGIN + x * (cell + GAP)
        draw.text((left + cell / 2, top - GAP), word, INK, font, anchor="ms")
        for y, row in enumerate(rows):
            picture = Image.fromarray(row[x]).resize((cell, height), Image.Resampling.LANCZOS)
            canvas.paste(picture, (left, top + y * (height + GAP)))
    return np.asarray(canvas)
