"""Pictures warped back through their quad into the photo that it was cropped from, with a feathered seam.

`paste` puts a picture in the place of the face. `paste_difference` adds what an edit changed, and leaves
what the inversion never drew (pores, a cap, the other half of the hair) as it is in the photo.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from pipeline.faces.mask import face_mask, ramp

# How a picture goes back: what an edit changed is added, or the face is replaced; auto: the first of edits.
Mode = Literal["auto", "difference", "replace"]
Mask = Literal["face", "square"]  # where a difference is added: hair is not in the face
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
    place = _Place.of(photo_u8, quad)
    pasted = photo_u8.copy()
    if place is None:
        return pasted
    u, v = place.shares()
    weight = (ramp(u, feather) * ramp(v, feather))[..., None]
    warped = place.warped([Image.fromarray(picture_u8)])[0]
    region = pasted[place.box]
    region[:] = _rounded(region + weight * (warped.astype(np.float32) - region))
    return pasted


def paste_difference(
    photo_u8: np.ndarray,
    edited_u8: np.ndarray,
    inverted_u8: np.ndarray,
    quad: np.ndarray,
    landmarks: np.ndarray | None,
    feather: float = FEATHER,
) -> np.ndarray:
    """The photo with what an edit changed added to it, inside a soft mask of the face.

    Values are added as they are stored, not as light: where photo and inversion are lit differently, sums
    of light are clipped sooner, and measured they are no closer (docs/editing.md).

    edited_u8, inverted_u8: [h, w, 3] uint8, what the generator draws with the edit and without.
    landmarks: [68, 2] in pixels of the photo; None: the mask is the whole quad.
    Others as for `paste`. Returns a new [H, W, 3] uint8.
    """
    place = _Place.of(photo_u8, quad)
    pasted = photo_u8.copy()
    if place is None:
        return pasted
    points = None if landmarks is None else place.in_unit(landmarks)
    mask = face_mask(points, edited_u8.shape[:2], feather)
    change = mask[..., None] * (edited_u8.astype(np.float32) - inverted_u8)
    channels = place.warped([Image.fromarray(change[..., c]) for c in range(3)])
    u, v = place.shares()
    inside = (np.abs(u - 0.5) <= 0.5) & (np.abs(v - 0.5) <= 0.5)
    region = pasted[place.box]
    region[:] = _rounded(region + inside[..., None] * np.stack(channels, axis=-1))
    return pasted


def whole(photo_u8: np.ndarray) -> np.ndarray:
    """The quad of a picture that was not aligned: the photo's own edges."""
    height, width = photo_u8.shape[:2]
    left, top, right, bottom = -0.5, -0.5, width - 0.5, height - 0.5
    return np.array([[left, top], [left, bottom], [right, bottom], [right, top]])


def _rounded(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class _Place:
    """The part of a photo that a quad touches, and where in the quad its pixels lie."""

    box: tuple[slice, slice]  # rows, columns
    corner: np.ndarray  # [2], the quad's upper left in pixels of the photo
    to_unit: np.ndarray  # [2, 2], steps in the photo -> shares of the quad's sides
    sides: np.ndarray  # [2] pixels

    @staticmethod
    def of(photo_u8: np.ndarray, quad: np.ndarray) -> _Place | None:
        """None where nothing of the quad lies in the photo."""
        corners = np.asarray(quad, dtype=np.float64)
        # Along the upper side and down the left one: the quad of an alignment is a square.
        to_photo = np.stack([corners[3] - corners[0], corners[1] - corners[0]], axis=1)
        if not np.isfinite(corners).all() or abs(np.linalg.det(to_photo)) < 1:
            raise ValueError("this quad has no area, so nothing can be pasted into it")
        (left, top), (right, bottom) = _box(corners, photo_u8.shape)
        if right <= left or bottom <= top:
            return None
        box = slice(top, bottom), slice(left, right)
        return _Place(box, corners[0], np.linalg.inv(to_photo), np.hypot(*to_photo))

    def in_unit(self, points: np.ndarray) -> np.ndarray:
        """Points of the photo [N, 2] as shares of the quad's sides."""
        return (np.asarray(points, np.float64) - self.corner) @ self.to_unit.T

    def shares(self) -> tuple[np.ndarray, np.ndarray]:
        """Where each pixel of the box lies along the upper side and down the left one."""
        rows, columns = self.box
        # A pixel with the index x has its centre at x, as the corners have; Pillow counts from its edge.
        x, y = (np.arange(part.stop - part.start) for part in (columns, rows))
        (a, b), (c, d) = self.to_unit
        u, v = self._offset
        return a * x + b * y[:, None] + u, c * x + d * y[:, None] + v

    def warped(self, pictures: list[Image.Image]) -> list[np.ndarray]:
        """Pictures of one size as they lie in the photo: the box of it."""
        rows, columns = self.box
        size = columns.stop - columns.start, rows.stop - rows.start
        return [_warped(one, self.to_unit, self._offset, size, self.sides) for one in pictures]

    @property
    def _offset(self) -> np.ndarray:
        """[2], the box's first pixel, in shares."""
        rows, columns = self.box
        return self.to_unit @ (np.array([columns.start, rows.start]) - self.corner)


def _box(corners: np.ndarray, shape: tuple[int, ...]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Whole pixels around the quad, inside the photo: (left, top), (right, bottom)."""
    low = np.maximum(np.floor(corners.min(axis=0)), 0).astype(int)
    high = np.minimum(np.ceil(corners.max(axis=0)) + 1, [shape[1], shape[0]]).astype(int)
    return (low[0], low[1]), (high[0], high[1])


def _warped(
    picture: Image.Image,
    to_unit: np.ndarray,
    offset: np.ndarray,
    size: tuple[int, int],
    sides: np.ndarray,
) -> np.ndarray:
    """The picture as it lies in the photo, for a box of some width and height."""
    # The sampler looks at few pixels: what is much larger than its place is reduced with a filter first.
    width, height = (
        min(n, max(1, round(float(side)))) for n, side in zip(picture.size, sides, strict=True)
    )
    if (width, height) != picture.size:
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    # The outermost pixels once more, so that the sampler finds something half a pixel beyond the edge.
    pixels = np.asarray(picture)
    pixels = np.pad(pixels, ((2, 2), (2, 2), (0, 0))[: pixels.ndim], "edge")
    scale = np.array([width, height])
    matrix = to_unit * scale[:, None]
    shift = offset * scale + 2 - matrix @ np.array([0.5, 0.5])
    coefficients = (*matrix[0], shift[0], *matrix[1], shift[1])
    placed = Image.fromarray(pixels).transform(
        size, Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC
    )
    return np.asarray(placed)
