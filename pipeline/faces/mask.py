"""Where in an aligned picture the face is: a soft mask of its 68 landmarks, forehead included."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

JAW, BROWS, CHIN = slice(0, 17), slice(17, 27), 8
# Of the way from the chin up to a brow, which is two thirds of a face: its upper third is the forehead.
FOREHEAD = 0.5
ROOM = 0.03  # around the hull, as a share of the side: glasses stand out, and so does a turned head
MIN_SIDE = 256  # pixels that the hull is drawn with


def face_mask(points: np.ndarray | None, size: tuple[int, int], feather: float) -> np.ndarray:
    """1 in a face, 0 away from it and at the picture's edges, [h, w] float32.

    points: [68, 2] landmarks (x, y) as shares of the picture's sides; None: the whole picture but its edge.
    size: height and width.
    feather: width of the seam, as a share of the side.
    """
    height, width = size
    x, y = ((np.arange(n) + 0.5) / n for n in (width, height))
    edge = ramp(y, feather)[:, None] * ramp(x, feather)
    if points is None or not np.isfinite(points).all():
        return edge
    outline = _outline(np.asarray(points, np.float64))
    if len(outline) < 3:
        return edge
    factor = max(1, -(-MIN_SIDE // min(size)))
    drawn = Image.new("L", (width * factor, height * factor))
    corners = outline * drawn.size
    line = [tuple(corner) for corner in np.clip(corners, -4 * drawn.width, 5 * drawn.width)]
    ImageDraw.Draw(drawn).polygon(line, fill=255)
    # Three boxes of a Gaussian: about two deviations to either side are the seam.
    soft = drawn.filter(ImageFilter.GaussianBlur(feather / 4 * drawn.width)).reduce(factor)
    return edge * (np.asarray(soft, np.float32) / 255)


def ramp(share: np.ndarray, feather: float) -> np.ndarray:
    """0 at the edges of the unit interval and outside, 1 from the feather inwards, smooth between."""
    depth = np.minimum(share, 1 - share)
    t = np.clip(depth / max(feather, 1e-6), 0, 1).astype(np.float32)
    return t * t * (3 - 2 * t)


def _outline(points: np.ndarray) -> np.ndarray:
    """The convex hull of the face and its forehead, with some room, [N, 2]."""
    brows, chin = points[BROWS], points[CHIN]
    rise = (brows.mean(axis=0) - chin) * FOREHEAD
    hull = _convex(np.concatenate([points[JAW], brows, brows + rise]))
    out = hull - points.mean(axis=0)
    return hull + ROOM * out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-9)


def _convex(points: np.ndarray) -> np.ndarray:
    """The corners of the convex hull, one after the other (Andrew's monotone chain)."""
    ordered = points[np.lexsort((points[:, 1], points[:, 0]))]

    def half(run: np.ndarray) -> list[np.ndarray]:
        chain: list[np.ndarray] = []
        for point in run:
            while len(chain) > 1 and _turn(chain[-2], chain[-1], point) <= 0:
                chain.pop()
            chain.append(point)
        return chain[:-1]

    return np.array(half(ordered) + half(ordered[::-1])).reshape(-1, 2)


def _turn(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> float:
    """Above 0 where the way from a over b to c turns in the sense of x to y."""
    return float((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))
