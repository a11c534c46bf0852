"""Rendered portraits: the demo's data. Batched torch, some seventy normals each, nobody's face.

    z = sample(48, seed=0)                        # [48, N_PARAMETERS] normals
    photos = render(z, size=256, view="photo")    # [48, 3, 256, 256] in [-1, 1], to find and align
    crops = render(z, size=64, view="aligned")    # what FFHQ's alignment makes of them
    points = landmarks(z, 256, "photo")           # the true 68 landmarks, in pixels
    labels = attributes(z)                        # what is in them, in meaningful units

`import pipeline.portraits` loads no torch; the first name taken from it does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .framing import View as View
    from .labels import attributes as attributes
    from .labels import landmarks as landmarks
    from .parameters import N_PARAMETERS as N_PARAMETERS
    from .parameters import sample as sample
    from .rendering import render as render

_HOME = {
    "N_PARAMETERS": "parameters",
    "View": "framing",
    "attributes": "labels",
    "landmarks": "labels",
    "render": "rendering",
    "sample": "parameters",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value
