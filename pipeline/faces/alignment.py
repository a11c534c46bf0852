"""FFHQ face alignment as pure geometry: 68 landmarks -> oriented quad -> square crop.

The method is the published one of the FFHQ data set (Karras et al., arXiv 1812.04948, appendix C)
as pSp and ReStyle apply it (`align_face`), so that crops match what their encoders were trained on.
It is written for large photos: only the part of the picture that the crop needs is ever resampled,
and padding is computed in 8 bits, where the crop sees it.
"""

import numpy as np
from PIL import Image, ImageFilter

# The quad in units of the face, as published.
_EYE_SPAN = 2.0  # half the quad's side, in distances between the eyes ...
_MOUTH_SPAN = 1.8  # ... or from the eyes to the mouth, whichever is longer
_DOWN = 0.1  # its centre lies this part of the way from the eyes to the mouth

# The surroundings of the quad, in units of its side, as published.
_MARGIN = 0.1  # kept around the quad when the picture is cropped
_PAD = 0.3  # least padding on every side, once any is needed
_BLUR = 0.02  # standard deviation of the blur of padded areas

_MEDIAN_SIDE = 400  # about as many rows and columns of a padded picture tell its median colour


def quad(landmarks: np.ndarray) -> np.ndarray:
    """The FFHQ square around a face.

    landmarks: [68, 2] in the iBUG order, x and y in pixels of the source picture.
    Returns [4, 2] float64, the corners upper left, lower left, lower right, upper right as the
    face sees them (the square is turned with the head), in source pixels.
    Raises ValueError where no square follows: wrong shape, not finite, eyes and mouth in one point.
    """
    points = np.asarray(landmarks, dtype=np.float64)
    if points.shape != (68, 2):
        raise ValueError(f"landmarks must have shape (68, 2), not {points.shape}")
    if not np.isfinite(points).all():
        raise ValueError("landmarks must be finite numbers")
    eye_left, eye_right = eyes(points)
    between = (eye_left + eye_right) / 2
    eye_to_eye = eye_right - eye_left
    eye_to_mouth = (points[48] + points[54]) / 2 - between

    # Both axes of the face vote for its rotation: the line of the eyes and the line to the mouth.
    x = eye_to_eye - _quarter_turn(eye_to_mouth)
    length = np.hypot(*x)
    if length < 1e-6:
        raise ValueError("landmarks do not describe a face: eyes and mouth do not span a square")
    x *= max(np.hypot(*eye_to_eye) * _EYE_SPAN, np.hypot(*eye_to_mouth) * _MOUTH_SPAN) / length
    y = _quarter_turn(x)
    centre = between + eye_to_mouth * _DOWN
    return np.stack([centre - x - y, centre - x + y, centre + x + y, centre + x - y])


def crop(
    image_u8: np.ndarray, quad: np.ndarray, output_size: int, transform_size: int
) -> np.ndarray:
    """The picture inside a quad, upright and square.

    image_u8: [H, W, 3] uint8. quad: [4, 2] in pixels of it, corners in the order of `quad()`; it
    may reach beyond the picture, which is then continued by its blurred reflection.
    The square is sampled bilinearly at `transform_size` pixels, then reduced to `output_size`
    (FFHQ: 4096 and 1024; ReStyle: 256 and 256).
    Returns [output_size, output_size, 3] uint8.
    Raises ValueError for a quad without area, not finite or wholly outside the picture, and for a
    transform_size below output_size.
    """
    corners, side = _checked(image_u8, quad)
    if not 1 <= output_size <= transform_size:
        raise ValueError("output_size must be at least 1 and at most transform_size")
    picture, corners, side = _cut_out(image_u8, corners, side, output_size)
    picture, corners = _padded(picture, corners, side)
    square = picture.transform(
        (transform_size, transform_size),
        Image.Transform.QUAD,
        (corners + 0.5).flatten().tolist(),
        Image.Resampling.BILINEAR,
    )
    if output_size < transform_size:
        square = square.resize((output_size, output_size), Image.Resampling.LANCZOS)
    return np.array(square)


def eyes(landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Middle [2] of the eye on the left of the picture and of the one on its right, of [68, 2]."""
    points = np.asarray(landmarks, dtype=np.float64)
    return points[36:42].mean(axis=0), points[42:48].mean(axis=0)


def _quarter_turn(vector: np.ndarray) -> np.ndarray:
    """The vector turned by 90 degrees, from x towards y."""
    return np.array([-vector[1], vector[0]])


def _checked(image_u8: np.ndarray, quad: np.ndarray) -> tuple[np.ndarray, float]:
    """The quad as float64 and the length of its upper side, once both are known to be sound."""
    if image_u8.ndim != 3 or image_u8.shape[2] != 3 or image_u8.dtype != np.uint8:
        raise ValueError(f"image must be [H, W, 3] uint8, not {image_u8.shape} {image_u8.dtype}")
    corners = np.array(quad, dtype=np.float64)
    if corners.shape != (4, 2):
        raise ValueError(f"quad must have shape (4, 2), not {corners.shape}")
    if not np.isfinite(corners).all():
        raise ValueError("quad must be finite numbers")
    low, high = corners.min(axis=0), corners.max(axis=0)
    side = float(np.hypot(*(corners[3] - corners[0])))
    shortest = min(side, float(np.hypot(*(corners[1] - corners[0]))))
    if shortest < 1:
        raise ValueError(f"quad is degenerate: its side is {shortest:.3g} pixels")
    if (high - low).max() > 8 * side:
        raise ValueError("quad is degenerate: it is far from a square")
    height, width = image_u8.shape[:2]
    if high[0] <= 0 or high[1] <= 0 or low[0] >= width or low[1] >= height:
        raise ValueError("quad lies outside the picture")
    return corners, side


def _cut_out(
    image_u8: np.ndarray, corners: np.ndarray, side: float, output_size: int
) -> tuple[Image.Image, np.ndarray, float]:
    """The quad's surroundings, reduced by a whole factor where they are much too large.

    The published steps reduce the whole picture and then crop it. Resampling just the crop's own
    box gives the same pixels (the filter still sees beyond the box) without touching the rest.
    """
    height, width = image_u8.shape[:2]
    factor = float(np.floor(side / output_size * 0.5))
    reduced = width, height
    if factor > 1:
        reduced = max(1, round(width / factor)), max(1, round(height / factor))
        corners, side = corners / factor, side / factor
    margin = _margin(side)
    left, top, right, bottom = _bounds(corners)
    left, top = max(left - margin, 0), max(top - margin, 0)
    right, bottom = min(right + margin, reduced[0]), min(bottom + margin, reduced[1])
    if right <= left or bottom <= top:
        raise ValueError("quad lies outside the picture")

    if factor > 1:
        scale_x, scale_y = width / reduced[0], height / reduced[1]
        box = left * scale_x, top * scale_y, right * scale_x, bottom * scale_y
        picture = Image.fromarray(image_u8).resize(
            (right - left, bottom - top),
            Image.Resampling.LANCZOS,
            box=(box[0], box[1], min(box[2], width), min(box[3], height)),
        )
    else:
        picture = Image.fromarray(np.ascontiguousarray(image_u8[top:bottom, left:right]))
    return picture, corners - np.array([left, top]), side


def _padded(
    picture: Image.Image, corners: np.ndarray, side: float
) -> tuple[Image.Image, np.ndarray]:
    """The picture continued by reflection where the quad comes near its edge or leaves it.

    Towards the outside the reflection is blurred and fades into the median colour, so that no
    second face shows there.
    """
    margin = _margin(side)
    left, top, right, bottom = _bounds(corners)
    beyond = (
        max(-left + margin, 0),
        max(-top + margin, 0),
        max(right - picture.width + margin, 0),
        max(bottom - picture.height + margin, 0),
    )
    if max(beyond) <= margin - 4:
        return picture, corners
    least = round(side * _PAD)
    left, top, right, bottom = (max(pad, least, 1) for pad in beyond)
    pixels = np.pad(np.asarray(picture), ((top, bottom), (left, right), (0, 0)), "reflect")
    height, width = pixels.shape[:2]
    depth_x, depth_y = _depth(width, left, right), _depth(height, top, bottom)
    blurred, factor = _blurred(Image.fromarray(pixels), side * _BLUR)

    def softened(x: slice, y: slice) -> Image.Image:
        sharp = Image.fromarray(np.ascontiguousarray(pixels[y, x]))
        box = x.start / factor, y.start / factor, x.stop / factor, y.stop / factor
        smooth = blurred.resize(sharp.size, Image.Resampling.BILINEAR, box=box)
        return Image.composite(smooth, sharp, _mask(depth_x[x] * 3 + 1, depth_y[y] * 3 + 1))

    # The colour is that of the whole, of which every few pixels tell; drawn is what the quad sees.
    step = max(1, round(max(width, height) / _MEDIAN_SIDE))
    colour = _median(softened(slice(0, width, step), slice(0, height, step)))
    corners = corners + np.array([left, top])
    left, top, right, bottom = _bounds(corners)
    x, y = slice(left - 2, right + 2), slice(top - 2, bottom + 2)
    seen = softened(x, y)
    seen.paste(colour, mask=_mask(depth_x[x], depth_y[y]))
    return seen, corners - np.array([x.start, y.start])


def _depth(length: int, before: int, after: int) -> np.ndarray:
    """Of each pixel along one side: 1 at the edges, 0 where padding ends, below 0 within."""
    at = np.arange(length, dtype=np.float32)
    return 1 - np.minimum(at / before, at[::-1] / after)


def _mask(weight_x: np.ndarray, weight_y: np.ndarray) -> Image.Image:
    """The larger of both weights at each pixel, in 255 steps."""
    x, y = (np.rint(weight.clip(0, 1) * 255).astype(np.uint8) for weight in (weight_x, weight_y))
    return Image.fromarray(np.maximum(x[None, :], y[:, None]))


def _blurred(picture: Image.Image, sigma: float) -> tuple[Image.Image, int]:
    """The picture blurred and reduced by a whole factor, which is told too.

    Enlarged again by linear interpolation it stands for scipy.ndimage.gaussian_filter of the
    published code, within a grey level or two: a wide blur leaves nothing that the smaller copy
    lacks. Its pixels and the way back blur a little themselves; Pillow's Gaussian is three boxes.
    """
    factor = max(int(sigma / 2), 1)
    if factor == 1:
        return picture.filter(ImageFilter.GaussianBlur(sigma)), 1
    rest = float(np.sqrt(sigma**2 - factor**2 / 4)) / factor
    return picture.reduce(factor).filter(ImageFilter.GaussianBlur(rest)), factor


def _median(picture: Image.Image) -> tuple[int, ...]:
    """The median of each colour."""
    counts = np.reshape(picture.histogram(), (3, 256)).cumsum(axis=1)
    return tuple(int(np.searchsorted(of_colour, of_colour[-1] / 2)) for of_colour in counts)


def _margin(side: float) -> int:
    return max(round(side * _MARGIN), 3)


def _bounds(corners: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the smallest box of whole pixels around the corners."""
    (left, top), (right, bottom) = np.floor(corners.min(axis=0)), np.ceil(corners.max(axis=0))
    return int(left), int(top), int(right), int(bottom)
