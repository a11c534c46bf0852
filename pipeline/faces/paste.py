"""A picture warped back through its quad into the photo it was cropped from, with a feathered seam."""

from __future__ import annotations

import numpy as np
from PIL import Image

FEATHER = 0.2  # width of the seam, as a share of the quad's side: at 0.12 the square shows


def paste(
    photo_u8: np.ndarray, picture_u8: np.ndarray, quad: np.ndarray, feather: float = FEATHER
) -> np.ndarray:
    """The photo with the picture in the place that `pipeline.faces.alignment.crop` took it from.

    photo_u8: [H, W, 3] uint8. picture_u8: [h, w, 3] uint8, of any size. quad: [4, 2] in pixels of the
    photo: upper left, lower left, lower right, upper right; what of it lies outside is left out.
    feather: from the quad's edge to where the picture covers the photo, as a share of the side.
    Returns a new [H, W, 3] uint8; outside the quad the photo's own pixels.
    Raises ValueError for a quad without area or not finite.
    """
    corners = np.asarray(quad, dtype=np.float64)
    # Along the upper side and down the left one: the quad of an alignment is a square.
    to_photo = np.stack([corners[3] - corners[0], corners[1] - corners[0]], axis=1)
    if not np.isfinite(corners).all() or abs(np.linalg.det(to_photo)) < 1:
        raise ValueError("this quad has no area, so nothing can be pasted into it")
    pasted = photo_u8.copy()
    (left, top), (right, bottom) = _box(corners, photo_u8.shape)
    if right <= left or bottom <= top:
        return pasted
    # A pixel with the index x has its centre at x, as the corners have; Pillow counts from its edge.
    to_unit = np.linalg.inv(to_photo)
    offset = to_unit @ (np.array([left, top]) - corners[0])
    size = right - left, bottom - top
    x, y = np.arange(size[0]), np.arange(size[1])
    u = to_unit[0, 0] * x[None, :] + to_unit[0, 1] * y[:, None] + offset[0]
    v = to_unit[1, 0] * x[None, :] + to_unit[1, 1] * y[:, None] + offset[1]
    weight = (_ramp(u, feather) * _ramp(v, feather))[..., None]
    warped = _warped(picture_u8, to_unit, offset, size, np.hypot(*to_photo))
    region = pasted[top:bottom, left:right]
    mixed = region + weight * (warped.astype(np.float32) - region)
    region[:] = np.clip(np.rint(mixed), 0, 255)
    return pasted


def _box(corners: np.ndarray, shape: tuple[int, ...]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Whole pixels around the quad, inside the photo: (left, top), (right, bottom)."""
    low = np.maximum(np.floor(corners.min(axis=0)), 0).astype(int)
    high = np.minimum(np.ceil(corners.max(axis=0)) + 1, [shape[1], shape[0]]).astype(int)
    return (low[0], low[1]), (high[0], high[1])


def _ramp(share: np.ndarray, feather: float) -> np.ndarray:
    """0 at the edges of the unit interval and outside, 1 from the feather inwards, smooth between."""
    depth = np.minimum(share, 1 - share)
    t = np.clip(depth / max(feather, 1e-6), 0, 1).astype(np.float32)
    return t * t * (3 - 2 * t)


def _warped(
    picture_u8: np.ndarray,
    to_unit: np.ndarray,
    offset: np.ndarray,
    size: tuple[int, int],
    sides: np.ndarray,
) -> np.ndarray:
    """The picture as it lies in the photo, for a box of some width and height."""
    picture = Image.fromarray(picture_u8)
    # The sampler looks at few pixels: what is much larger than its place is reduced with a filter first.
    width, height = (
        min(n, max(1, round(float(side)))) for n, side in zip(picture.size, sides, strict=True)
    )
    if (width, height) != picture.size:
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    # The outermost pixels once more, so that the sampler finds something half a pixel beyond the edge.
    pixels = np.pad(np.asarray(picture), ((2, 2), (2, 2), (0, 0)), "edge")
    scale = np.array([width, height])
    matrix = to_unit * scale[:, None]
    shift = offset * scale + 2 - matrix @ np.array([0.5, 0.5])
    coefficients = (*matrix[0], shift[0], *matrix[1], shift[1])
    placed = Image.fromarray(pixels).transform(
        size, Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC
    )
    return np.asarray(placed)
