"""How a face lay in its photo: the motion from its aligned picture back, as stylegan3-editing finds it.

The *crop* is the upright square around the same place, of the same size: what FFHQ-U shows. From the eyes in
both follows how far the aligned picture is turned and moved; its size stays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from generators.motion import motion
from pipeline.faces.alignment import eyes


@dataclass(frozen=True, eq=False)
class Pose:
    """Where a face is in an unaligned picture."""

    degrees: float  # counter-clockwise, 0 to 360
    shift: np.ndarray  # [2] float64, right and down, in widths of the picture

    @property
    def motion(self) -> np.ndarray:
        """From the aligned picture to the unaligned one, [3, 3] float64; see `generators.motion`."""
        return motion(float(self.shift[0]), float(self.shift[1]), self.degrees)

    @property
    def transform(self) -> np.ndarray:
        """What a StyleGAN3's synthesis takes, [3, 3] float64: the inverse of the motion."""
        return np.linalg.inv(self.motion)


def pose(
    aligned: np.ndarray, unaligned: np.ndarray, side: int, turned: np.ndarray | None = None
) -> Pose:
    """From the landmarks of one face in two pictures.

    Args:
        aligned, unaligned: [68, 2] in pixels of pictures of `side` pixels.
        turned: those found in the aligned picture once it is turned; None: the aligned ones, turned.

    Raises:
        ValueError: the eyes of one of them are in one point.
    """
    left, right = eyes(unaligned)
    across, level = _direction(left, right), _direction(*eyes(aligned))
    degrees = float(np.rad2deg(np.arccos(np.clip(level @ across, -1, 1))))
    if right[1] > left[1]:  # the head leans to the right of the picture
        degrees = 360 - degrees
    if turned is None:
        turned = _turned(np.asarray(aligned, np.float64), degrees, side)
    return Pose(degrees, (left - eyes(turned)[0]) / side)


def in_crop(landmarks: np.ndarray, quad: np.ndarray) -> Pose:
    """How a face lies in the upright square around its quad.

    Args:
        landmarks: [68, 2], and
        quad: [4, 2] as `alignment.quad` gives it, both in pixels of the photo.

    Raises:
        ValueError: they are not finite, or describe no face.
    """
    points, corners = np.asarray(landmarks, np.float64), np.asarray(quad, np.float64)
    if not np.isfinite(points).all() or not np.isfinite(corners).all():
        raise ValueError("landmarks and quad must be finite numbers")
    side = 1024  # of both; what follows is in parts of it
    places = _within(points, corners, side), _within(points, upright(corners), side)
    return pose(*places, side)


def upright(quad: np.ndarray) -> np.ndarray:
    """The upright square [4, 2] around the centre of a quad, of its size; corners in the same order."""
    corners = np.asarray(quad, dtype=np.float64)
    half = np.hypot(*(corners[3] - corners[0])) / 2
    around = np.array([[-half, -half], [-half, half], [half, half], [half, -half]])
    return corners.mean(axis=0) + around


def _within(points: np.ndarray, quad: np.ndarray, side: int) -> np.ndarray:
    """Points of the photo, [n, 2], in pixels of the square picture that a quad becomes."""
    axes = np.stack([quad[3] - quad[0], quad[1] - quad[0]], axis=1)
    if not abs(np.linalg.det(axes)) > 0:
        raise ValueError("the quad has no area")
    return (points - quad[0]) @ np.linalg.inv(axes).T * side


def _turned(points: np.ndarray, degrees: float, side: int) -> np.ndarray:
    """Points [n, 2] of a picture that is turned counter-clockwise about its middle."""
    return (points - side / 2) @ motion(0, 0, degrees)[:2, :2].T + side / 2


def _direction(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    across = right - left
    length = np.hypot(*across)
    if not length > 0:
        raise ValueError("landmarks do not describe a face: the eyes are in one point")
    return across / length
