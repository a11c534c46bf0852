"""One sample to its rows: decoded, its faces found and cropped, or the reason why not."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from pipeline.faces import alignment, colour, images
from pipeline.faces.tracking import NOTHING, Detections, Position
from pipeline.records import AlignedFace, Sample, Status

# Smallest side of the square that the quad is first transformed to, as published (256), so that small
# encoder inputs are averaged rather than sampled.
MIN_TRANSFORM_SIZE = 256


@dataclass(frozen=True)
class AlignSettings:
    """What :func:`align_sample` needs to know of a run."""

    mode: str  # "face" or "none"
    faces: str  # "largest" or "all"
    height: int  # of the encoder's input
    width: int
    chips: bool = False  # whether dlib's identity is to be measured


def align_sample(sample: Sample, settings: AlignSettings) -> list[AlignedFace]:
    """Rows of one sample: at least one, whatever is wrong with it."""
    if sample.image is None:
        return [AlignedFace(sample.index, sample.key, sample.status, sample.error)]
    try:
        picture, profile = images.decode_own_colours(sample.image)
    except images.ImageError as error:
        return [AlignedFace(sample.index, sample.key, Status.DECODE_ERROR, str(error))]
    return align_picture(sample, picture, profile, settings)


def find_faces(sample: Sample) -> tuple[Detections, AlignedFace | None]:
    """What is found in a frame of a clip, and the row of one that cannot be used whatever is found."""
    if sample.image is None:
        return NOTHING, AlignedFace(sample.index, sample.key, sample.status, sample.error)
    try:
        picture, _ = images.decode_own_colours(sample.image)
    except images.ImageError as error:
        return NOTHING, AlignedFace(sample.index, sample.key, Status.DECODE_ERROR, str(error))
    from pipeline.faces import detection

    faces = detection.detect(picture)
    if not faces:
        return NOTHING, None
    landmarks = np.stack([face.landmarks for face in faces])
    return Detections(landmarks, tuple(face.score for face in faces)), None


def crop_followed(
    sample: Sample, n_faces: int, position: Position | None, settings: AlignSettings
) -> AlignedFace:
    """The row of a frame whose face was followed to a place; None: it was lost.

    n_faces: found in the frame.
    """
    assert sample.image is not None
    picture, profile = images.decode_own_colours(sample.image)
    size = {"width": picture.shape[1], "height": picture.shape[0]}
    if position is None:
        error = "no face was found"
        if n_faces:
            error = "the face that is followed was not found"
        lost = AlignedFace(sample.index, sample.key, Status.NO_FACE, error, n_faces=n_faces)
        return replace(lost, **size)
    row = functools.partial(
        AlignedFace,
        sample.index,
        sample.key,
        face=position.face,
        n_faces=n_faces,
        track=position.track,
        is_interpolated=position.is_interpolated,
        **size,
    )
    return _crop(picture, profile, position, settings, row)


def align_picture(
    sample: Sample, picture: np.ndarray, profile: bytes | None, settings: AlignSettings
) -> list[AlignedFace]:
    """Rows of a sample whose picture is decoded: [H, W, 3] uint8, and its profile unless that is sRGB."""
    row = functools.partial(
        AlignedFace, sample.index, sample.key, width=picture.shape[1], height=picture.shape[0]
    )
    if settings.mode == "none":
        resized = _resize(colour.to_srgb(picture, profile), settings)
        return [row(status=Status.OK, image_u8=resized, chip_u8=_chip(resized, settings))]

    from pipeline.faces import detection

    # All faces want a search at every scale; the largest is found at the first that shows one.
    faces = detection.detect(picture, every_scale=settings.faces == "all")
    if not faces:
        return [row(status=Status.NO_FACE, error="no face was found", n_faces=0)]
    wanted = faces if settings.faces == "all" else faces[:1]
    return [
        _crop(picture, profile, face, settings, functools.partial(row, face=i, n_faces=len(faces)))
        for i, face in enumerate(wanted)
    ]


def _chip(aligned_u8: np.ndarray, settings: AlignSettings) -> np.ndarray | None:
    if not settings.chips:
        return None
    from pipeline.faces import detection

    return detection.chip_aligned(aligned_u8)


def _resize(picture: np.ndarray, settings: AlignSettings) -> np.ndarray:
    size = (settings.width, settings.height)
    if picture.shape[:2] == size[::-1]:
        return picture
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))


def _crop(
    picture: np.ndarray,
    profile: bytes | None,
    face: Any,
    settings: AlignSettings,
    row: Callable[..., AlignedFace],
) -> AlignedFace:
    size = max(settings.height, settings.width)
    row = functools.partial(row, landmarks=face.landmarks, detection_score=face.score)
    try:
        quad = alignment.quad(face.landmarks)
        crop = alignment.crop(picture, quad, size, max(MIN_TRANSFORM_SIZE, size))
    except ValueError as error:
        return row(status=Status.ALIGN_ERROR, error=str(error))
    # Not of the photo, which may have a hundred times the pixels: the face is found in its own colours.
    resized = _resize(colour.to_srgb(crop, profile), settings)
    chip = _chip(resized, settings)
    return row(status=Status.OK, quad=quad, image_u8=resized, chip_u8=chip)


def cropped(photo_u8: np.ndarray, quad: np.ndarray | None, size: tuple[int, int]) -> np.ndarray:
    """What an encoder saw of a photo [H, W, 3] uint8, at another size (height, width).

    Args:
        quad: [4, 2] in pixels of the photo; None of one that was not aligned.

    Raises:
        ValueError: the quad is none.
    """
    height, width = size
    if quad is not None:
        side = max(height, width)
        photo_u8 = alignment.crop(photo_u8, quad, side, max(MIN_TRANSFORM_SIZE, side))
    resized = Image.fromarray(photo_u8).resize((width, height), Image.Resampling.BILINEAR)
    return np.array(resized)
