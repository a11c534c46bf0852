"""The same work as it was done before, for comparison: colours searched, padding in floats, Pillow alone."""

from unittest import mock

import numpy as np
from PIL import Image, ImageFilter

from pipeline.faces import alignment, images


def decode(data: bytes) -> np.ndarray:
    with mock.patch.object(images, "simplejpeg", None):
        return images.decode(data)


def search_copy(image_u8: np.ndarray, scale: float) -> np.ndarray:
    """In colours, read whole."""
    size = round(image_u8.shape[1] * scale), round(image_u8.shape[0] * scale)
    picture = Image.fromarray(image_u8)
    return np.array(picture.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))


def crop(
    image_u8: np.ndarray, quad: np.ndarray, output_size: int, transform_size: int
) -> np.ndarray:
    with mock.patch.object(alignment, "_padded", _padded):
        return alignment.crop(image_u8, quad, output_size, transform_size)


def _padded(
    picture: Image.Image, corners: np.ndarray, side: float
) -> tuple[Image.Image, np.ndarray]:
    margin = max(round(side * 0.1), 3)
    left, top, right, bottom = alignment._bounds(corners)
    beyond = (
        max(-left + margin, 0),
        max(-top + margin, 0),
        max(right - picture.width + margin, 0),
        max(bottom - picture.height + margin, 0),
    )
    if max(beyond) <= margin - 4:
        return picture, corners
    left, top, right, bottom = (max(pad, round(side * 0.3), 1) for pad in beyond)
    pixels = np.pad(np.asarray(picture), ((top, bottom), (left, right), (0, 0)), "reflect")
    blurred = np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(side * 0.02)))
    height, width = pixels.shape[:2]
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
    depth_x = 1 - np.minimum(x / left, x[::-1] / right)
    depth_y = 1 - np.minimum(y / top, y[::-1] / bottom)
    depth = np.maximum(depth_x[None, :], depth_y[:, None])
    blur_weight, fade_weight = np.clip(depth * 3 + 1, 0, 1), np.clip(depth, 0, 1)
    for channel in range(3):
        plane = pixels[:, :, channel].astype(np.float32)
        plane += (blurred[:, :, channel] - plane) * blur_weight
        plane += (np.median(plane) - plane) * fade_weight
        pixels[:, :, channel] = np.clip(np.rint(plane), 0, 255)
    return Image.fromarray(pixels), corners + np.array([left, top])
