"""Colours as a file's profile means them -> sRGB, which models, pages and files without one mean.

Profiles come from anywhere. One that is too large, damaged, or of another kind than its pixels is
ignored, as viewers do: the pixels stay as they are.
"""

import functools
import io

import numpy as np
from PIL import Image, ImageCms

MAX_PROFILE_BYTES = 4 << 20
"""A larger profile is ignored. Those of cameras and phones have 1 kB, those of presses up to 3 MB."""

UNNOTICED = 2
"""Grey levels. A profile that changes no colour by more says sRGB in other words."""

_STRIP_PIXELS = (
    1 << 20
)  # converted at once: a large picture has no second copy in Pillow's four bytes


def to_srgb(pixels_u8: np.ndarray, profile: bytes | None) -> np.ndarray:
    """[H, W, 3] uint8 in the colours of an ICC profile -> the same in sRGB.

    The very same array where there is nothing to convert, a new one otherwise.
    """
    transform = None if profile is None else _transform(profile, "RGB")
    if transform is None:
        return pixels_u8
    converted = np.empty_like(pixels_u8)
    n_rows = max(_STRIP_PIXELS // pixels_u8.shape[1], 1)
    for top in range(0, len(pixels_u8), n_rows):
        strip = Image.fromarray(np.ascontiguousarray(pixels_u8[top : top + n_rows]))
        converted[top : top + n_rows] = np.asarray(transform.apply(strip))
    return converted


def inks_to_srgb(picture: Image.Image, profile: object) -> Image.Image | None:
    """A CMYK picture as sRGB, as its profile means the inks; None where no profile tells."""
    transform = _transform(profile, "CMYK") if isinstance(profile, bytes) else None
    return None if transform is None else transform.apply(picture)


def needed(profile: object) -> bytes | None:
    """The profile of an RGB picture if it changes colours, else None."""
    if not isinstance(profile, bytes) or _transform(profile, "RGB") is None:
        return None
    return profile


def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    # Header of an ICC profile: the colours that it is for stand at 16, its signature at 36.
    if len(profile) > MAX_PROFILE_BYTES or profile[36:40] != b"acsp":
        return None
    return _built(profile, mode) if profile[16:20] == mode.ljust(4).encode() else None


@functools.lru_cache(maxsize=8)  # a data set has few cameras; the largest profiles take 32 MB
def _built(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    try:
        transform = ImageCms.ImageCmsTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, ImportError, OSError, ValueError, TypeError):
        return None
    return transform if mode == "CMYK" or _is_noticed(transform) else None


def _is_noticed(transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether it moves any of 17 x 17 x 17 colours by more than `UNNOTICED`."""
    levels = np.linspace(0, 255, 17).round().astype(np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(17, -1, 3)
    converted = np.asarray(transform.apply(Image.fromarray(colours)))
    return bool(np.abs(converted.astype(int) - colours).max() > UNNOTICED)
