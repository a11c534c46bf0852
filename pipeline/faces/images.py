"""Image files <-> uint8 RGB arrays, with one exception for everything a file can have wrong.

What becomes of the less common pictures:
- EXIF orientation is applied, so that arrays are upright as viewers show them.
- Transparency (alpha channels, transparent palette entries or colours) is composited over white,
  as a page shows it.
- 16-bit, 32-bit and float greys are scaled to 8 bits, not clipped (`_grey_u8`).
- Colours are sRGB: a picture with another profile (Display P3, Adobe RGB, inks of a press) is converted.
  CMYK and YCCK (Adobe JPEG) without a profile are converted by Pillow's formula.
- Of an animation or a multi-page file the first picture is taken.
"""

import contextlib
import io
import math
import re
from typing import Any

import numpy as np
from PIL import ExifTags, Image
from PIL.JpegImagePlugin import JpegImageFile

from pipeline.faces import colour, heic, mending, unsupported

try:
    import simplejpeg
except ImportError:  # no wheel for this machine: Pillow gives the same pixels, later
    simplejpeg = None

MAX_PIXELS = 150_000_000
MAX_SIDE = 16_384  # pixels of a picture that is made larger
"""A picture with more pixels than this is refused before any pixel of it is decoded.

Larger than what cameras save (a 100-megapixel medium format photo passes); at the limit a decode
needs about 1 GB. Pillow's own limit is a global of the process, so it is not used here."""

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM", "JPEG2000")
"""What is decoded, in Pillow's names, besides HEIC where its package is installed. Nothing else is tried:
some of Pillow's readers start other programs (EPS) or take any bytes for a picture (TGA)."""

JPEG_QUALITY = 95  # with full colour resolution: visually lossless, about a fifth of the PNG

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_AVIF = re.compile(rb"....ftypavi[fs]", re.DOTALL)
_SVG_TAG = re.compile(rb"(\xef\xbb\xbf)?\s*<([^\0]*<)?svg[\s>]", re.IGNORECASE)


class ImageError(ValueError):
    """Bytes that give no picture. Its text is one sentence, the same for the same bytes."""


class _DamageError(ImageError):
    """The bytes are no picture of their format as they are; perhaps they can be mended."""


def decode(data: bytes) -> np.ndarray:
    """The picture in a file's bytes, upright.

    Returns [H, W, 3] uint8 sRGB, contiguous and writable.
    Raises ImageError, and nothing else, for bytes that are empty, not an image of a format in
    `FORMATS`, truncated, damaged, or a picture of more than `MAX_PIXELS` pixels.
    """
    return colour.to_srgb(*decode_own_colours(data))


def decode_own_colours(data: bytes) -> tuple[np.ndarray, bytes | None]:
    """As :func:`decode`, but in the file's colours, with the profile that `colour.to_srgb` wants.

    Of a photo with a profile only the faces need to be converted. None: the pixels are sRGB.
    """
    name = _format_of(data)
    try:
        return _decoded(name, data)
    except _DamageError:
        whole = mending.mended(name, bytes(data), MAX_PIXELS)
        if whole is not None:
            with contextlib.suppress(ImageError):
                return _decoded(name, whole)
        raise


def _decoded(name: str, data: bytes) -> tuple[np.ndarray, bytes | None]:
    open_ = heic.reader() if name == "HEIC" else Image.OPEN[name][0]
    assert open_ is not None
    try:
        # The reader itself, not Image.open: that would apply the process's global pixel limit.
        with open_(io.BytesIO(data), "") as picture:
            _check_size(picture)
            pixels = _plain_jpeg(picture, data)
            if pixels is not None:
                return pixels, colour.needed(picture.info.get("icc_profile"))
            return _upright(picture)
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"the {name} data declares more pixels than Pillow accepts") from error
    except MemoryError as error:
        raise ImageError(f"the {name} data needs more memory than there is") from error
    except Exception as error:
        # Readers fail in a dozen ways (OSError, SyntaxError, struct.error, IndexError, ...) whose
        # texts name offsets and objects. All but a few of them mean this.
        if (kind := unsupported.kind_of(name, bytes(data), error)) is not None:
            raise ImageError(unsupported.sentence(kind)) from error
        raise _DamageError(f"the file is damaged: its {name} data is truncated or wrong") from error


def opened_own_colours(picture: Image.Image) -> tuple[np.ndarray, bytes | None]:
    """A picture that Pillow has opened or made, as :func:`decode_own_colours` gives that of a file.

    Raises ImageError where its pixels cannot be read, or are more than `MAX_PIXELS`.
    """
    try:
        _check_size(picture)
        return _upright(picture)
    except ImageError:
        raise
    except Exception as error:  # readers fail in a dozen ways, as above; or the file was closed
        raise ImageError(f"its pixels cannot be read ({error})") from error


def _upright(picture: Image.Image) -> tuple[np.ndarray, bytes | None]:
    """Pixels [H, W, 3] uint8 in the picture's own colours, and the profile that they still need."""
    picture.load()
    turn = _TURNS.get(_orientation(picture))
    rgb, profile = _rgb(picture)
    return np.array(rgb if turn is None else rgb.transpose(turn)), profile


def decode_or_none(data: bytes) -> np.ndarray | None:
    """As :func:`decode`, but None for bytes that give no picture."""
    try:
        return decode(data)
    except ImageError:
        return None


def fitted(height: int, width: int, side: int | None) -> tuple[int, int]:
    """Height and width of a picture whose longer side is to have so many pixels; None: as it is."""
    scale = 1 if side is None else side / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def sized(image_u8: np.ndarray, side: int | None) -> np.ndarray:
    """A picture [H, W, 3] uint8 whose longer side has so many pixels; None: as it is."""
    height, width, _ = image_u8.shape
    height, width = fitted(height, width, side)
    if (height, width) == image_u8.shape[:2]:
        return image_u8
    picture = Image.fromarray(image_u8).resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(picture)


def encode_jpeg(image_u8: np.ndarray, quality: int = JPEG_QUALITY) -> bytes:
    """[H, W, 3] uint8 -> JPEG bytes with full colour resolution (4:4:4)."""
    buffer = io.BytesIO()
    Image.fromarray(image_u8).save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def encode_png(image_u8: np.ndarray) -> bytes:
    """[H, W, 3] uint8 -> PNG bytes, lossless."""
    buffer = io.BytesIO()
    Image.fromarray(image_u8).save(buffer, "PNG")
    return buffer.getvalue()


def _format_of(data: bytes) -> str:
    """The format that the first bytes announce; ImageError where it is none of `FORMATS`."""
    if not data:
        raise ImageError("the file is empty (0 bytes)")
    head = bytes(data[:1024])
    if heic.is_heic(head):
        if heic.reader() is None:
            raise ImageError(f"HEIC photos are not read here: {heic.HOW_TO_READ}")
        return "HEIC"
    Image.init()
    for name in FORMATS:
        _, accept = Image.OPEN.get(name, (None, None))
        if accept is not None and accept(head[:16]) is True:
            return name
    if _SVG_TAG.match(head):
        raise ImageError(f"SVG drawings are not read: {unsupported.way_to_read('svg')}")
    way = unsupported.way_to_read("avif")
    if way is not None and _AVIF.match(head):
        raise ImageError(f"AVIF photos are not read here: {way}")
    raise ImageError("not an image in a supported format (" + ", ".join(FORMATS) + ")")


def _check_size(picture: Image.Image) -> None:
    width, height = picture.size
    if width < 1 or height < 1:
        raise ImageError(f"the image has no pixels ({width} x {height})")
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"the image has {width} x {height} pixels, more than the limit of "
            f"{MAX_PIXELS // 1_000_000} megapixels"
        )


def _plain_jpeg(picture: Image.Image, data: bytes) -> np.ndarray | None:
    """An upright baseline JPEG in colour: the pixels that Pillow would give, in half its time.

    None for every other picture, and wherever libjpeg has anything to say of the data: Pillow alone
    decides what is damaged.
    """
    is_plain = type(picture) is JpegImageFile and picture.mode == "RGB"
    if simplejpeg is None or not is_plain or "progressive" in picture.info:
        return None
    if _orientation(picture) in _TURNS:
        return None
    try:
        return simplejpeg.decode_jpeg(data, "RGB")
    except ValueError:
        return None


def _orientation(picture: Image.Image) -> int:
    """EXIF orientation, 1 to 8. Asked for after load(): some formats keep it behind the pixels."""
    try:
        return picture.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        return 1  # unreadable metadata is common and harms no pixel: such a picture is upright


def _rgb(picture: Image.Image) -> tuple[Image.Image, bytes | None]:
    """The picture in RGB, and the profile that its colours still need."""
    mode, profile = picture.mode, picture.info.get("icc_profile")
    if mode in ("I", "F") or mode.startswith("I;16"):
        return Image.fromarray(_grey_u8(np.asarray(picture))).convert("RGB"), None
    if mode == "LAB":
        raise ImageError(unsupported.sentence("colours in LAB"))
    if mode == "CMYK":
        return colour.inks_to_srgb(picture, profile) or picture.convert("RGB"), None
    own = None if mode in ("1", "L", "LA", "La") else colour.needed(profile)
    if not picture.has_transparency_data:
        return picture.convert("RGB"), own
    if mode == "La":
        picture = picture.convert("LA")
    overlay = picture.convert("RGBA")
    page = Image.new("RGB", picture.size, "white")
    page.paste(overlay, mask=overlay.getchannel("A"))
    return page, own


def _grey_u8(values: np.ndarray) -> np.ndarray:
    """Deep grey values -> uint8, scaled.

    White is the full scale that the format means. Where it does not say, it is the smallest usual
    one that holds the brightest pixel: 65535 for integers; 1, 255 or 65535 for floats; beyond
    those the brightest pixel itself. Negative values and NaN are black.
    """
    scales = (1.0, 255.0, 65535.0) if values.dtype.kind == "f" else (65535.0,)
    values = np.nan_to_num(values.astype(np.float32), copy=False, nan=0, posinf=0, neginf=0)
    brightest = float(values.max())
    white = next((scale for scale in scales if brightest <= scale), brightest)
    return np.rint(np.clip(values, 0, white) * (255 / white)).astype(np.uint8)


def to_u8(image: Any) -> np.ndarray:
    """One image of a network, a torch tensor [3, H, W] in [-1, 1] -> [H, W, 3] uint8, rounded.

    What lies outside [-1, 1] is clipped. Written without importing torch, which loads slowly.
    """
    scaled = image.detach().float().clamp(-1, 1).add(1).mul(127.5).round()
    return scaled.cpu().numpy().astype(np.uint8).transpose(1, 2, 0)


def n_jpegs_within(n_bytes: int, n_pixels: int) -> int:
    """How many pictures of n_pixels together take about so many bytes as JPEG, at least one."""
    return max(1, math.floor(n_bytes / (0.3 * n_pixels)))
