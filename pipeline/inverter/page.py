"""Results as a picture in a row, and as HTML for a notebook."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from pipeline.editing.sheet import sheet
from pipeline.faces import images

CELL = 128  # pixels of a picture's side in a strip
DIGITS = {"psnr": ".1f"}  # of a metric; others have three that count
MAX_SHOWN = 12  # faces of a list


def strip(words: Sequence[str], pictures: Sequence[Image.Image], cell: int) -> Image.Image:
    """Pictures beside each other, a word above each."""
    return Image.fromarray(sheet(words, [[np.asarray(each) for each in pictures]], cell))


def figure(picture: Image.Image, caption: str, table: str = "") -> str:
    """HTML of a picture with text below it."""
    data = base64.b64encode(images.encode_jpeg(np.asarray(picture), 90)).decode()
    return (
        f'<figure style="margin:0 0 1em"><img alt="{html.escape(caption)}" style="max-width:100%" '
        f'src="data:image/jpeg;base64,{data}"><figcaption>{html.escape(caption)}</figcaption>{table}</figure>'
    )


def metrics_table(metrics: Mapping[str, Sequence[float | None]], steps: Sequence[str]) -> str:
    """HTML of one row a metric and one column a step; empty without metrics."""
    if not metrics:
        return ""
    head = "".join(f"<th>{html.escape(step)}</th>" for step in steps)
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th>"
        + "".join(f"<td>{number(name, value)}</td>" for value in values)
        + "</tr>"
        for name, values in metrics.items()
    )
    return f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table>"


def number(metric: str, value: float | None) -> str:
    """A metric for people; empty where it was not measured."""
    return "" if value is None else format(value, DIGITS.get(metric, "#.3g"))
