"""Alignment geometry: the published crops, reproduced; other quads, padded or refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.faces import alignment

DATA = Path(__file__).parents[2] / "data" / "alignment"
LANDMARKS = {
    name: np.array(case["landmarks"])
    for name, case in json.loads((DATA / "landmarks.json").read_text()).items()
}


def picture(name):
    portrait = Image.open(DATA / "portrait.png").convert("RGB")
    if name == "edge":
        return np.array(portrait.crop((150, 20, 330, 260)))
    if name == "large":
        part = portrait.crop((60, 0, 400, 340))
        return np.array(part.resize((2040, 2040), Image.Resampling.BICUBIC))
    return np.array(portrait)


def square(centre, half, angle=0.0):
    x = np.array([np.cos(angle), np.sin(angle)]) * half
    y = np.array([-x[1], x[0]])
    return np.stack([centre - x - y, centre - x + y, centre + x + y, centre + x - y])


@pytest.mark.parametrize("transform_size", [256, 1024])
@pytest.mark.parametrize("name", ["portrait", "edge", "large"])
def test_reproduces_published_crops(name, transform_size):
    published = np.array(Image.open(DATA / f"{name}_aligned_{transform_size}to256.png"))
    ours = alignment.crop(picture(name), alignment.quad(LANDMARKS[name]), 256, transform_size)
    assert ours.shape == (256, 256, 3)
    assert ours.dtype == np.uint8
    difference = np.abs(ours.astype(int) - published.astype(int))
    assert difference.mean() <= 0.1
    assert np.percentile(difference, 99.9) <= 3
    if name != "edge":  # without padding not a pixel differs
        assert difference.max() <= 1


def test_quad_is_a_square_turned_with_the_head():
    points = LANDMARKS["portrait"].astype(float)
    corners = alignment.quad(points)
    sides = np.linalg.norm(np.roll(corners, -1, axis=0) - corners, axis=1)
    np.testing.assert_allclose(sides, sides[0])
    turn = np.array([[0.0, -1.0], [1.0, 0.0]])
    np.testing.assert_allclose(alignment.quad(points @ turn.T), corners @ turn.T, atol=1e-9)
    np.testing.assert_allclose(alignment.quad(points * 3 + 7), corners * 3 + 7)


def test_upright_quad_inside_is_a_plain_resize():
    ramp = np.zeros((64, 64, 3), np.uint8)
    ramp[..., 0], ramp[..., 1] = np.arange(64) * 4, np.arange(64)[:, None] * 4
    # Corners are pixel centres: this square begins half a pixel after 16 and ends before 48.
    ours = alignment.crop(ramp, square(np.array([31.5, 31.5]), 16), 32, 32)
    np.testing.assert_array_equal(ours, ramp[16:48, 16:48])


def test_reduced_crop_equals_crop_of_the_reduced_picture():
    """The published order, reduce everything and then crop, gives the same pixels."""
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (90, 120, 3), dtype=np.uint8))
    image_u8 = np.array(noise.resize((1203, 907), Image.Resampling.BICUBIC))
    corners = square(np.array([640.0, 480.0]), 200, 0.2)
    reduced = Image.fromarray(image_u8).resize((401, 302), Image.Resampling.LANCZOS)
    plain = reduced.transform(
        (64, 64), Image.Transform.QUAD, (corners / 3 + 0.5).flatten(), Image.Resampling.BILINEAR
    )
    ours = alignment.crop(image_u8, corners, 64, 64)
    assert np.abs(ours.astype(int) - np.array(plain).astype(int)).max() <= 1


def test_padding_continues_the_picture_and_fades():
    ours = alignment.crop(picture("portrait"), square(np.array([0.0, 256.0]), 120), 128, 128)
    inside = alignment.crop(picture("portrait"), square(np.array([60.0, 256.0]), 60), 64, 64)
    np.testing.assert_allclose(ours[32:96, 96:], inside[:, 32:], atol=1)  # the photo itself
    assert ours[:, :8].std(axis=0).mean() < ours[:, -8:].std(axis=0).mean()


def padded_as_published(image_u8, pads, side):
    """Padding as FFHQ's script computes it, whole and in floats."""
    left, top, right, bottom = pads
    pixels = np.pad(image_u8.astype(float), ((top, bottom), (left, right), (0, 0)), "reflect")
    height, width = pixels.shape[:2]
    y, x, _ = np.ogrid[:height, :width, :1]
    depth = np.maximum(
        1 - np.minimum(x / left, (width - 1 - x) / right),
        1 - np.minimum(y / top, (height - 1 - y) / bottom),
    )
    offsets = np.arange(-round(0.08 * side), round(0.08 * side) + 1)
    weights = np.exp(-0.5 * (offsets / (0.02 * side)) ** 2)
    reach = len(offsets) // 2
    blurred = pixels
    for axis in (0, 1):
        wide = np.pad(blurred, [(reach, reach) if i == axis else (0, 0) for i in range(3)], "edge")
        parts = [
            np.take(wide, np.arange(blurred.shape[axis]) + i, axis) for i in range(len(weights))
        ]
        blurred = sum(part * w for part, w in zip(parts, weights / weights.sum(), strict=True))
    pixels = pixels + (blurred - pixels) * np.clip(depth * 3 + 1, 0, 1)
    pixels += (np.median(pixels, axis=(0, 1)) - pixels) * np.clip(depth, 0, 1)
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    "half", [50, 130]
)  # a narrow blur, and one that is taken from a reduced copy
def test_padding_is_the_published_one(half):
    image_u8 = picture("portrait")[60:260, 150:370]
    height, width = image_u8.shape[:2]
    side, margin = 2.0 * half, round(0.2 * half)
    corners = square(np.array([20.0, 100.0]), half)
    beyond = half - 20, half - 100, 20 + half - width, 100 + half - height
    pads = [max(pad + margin, round(0.3 * side)) for pad in beyond]
    expected = padded_as_published(image_u8, pads, side)
    seen, moved = alignment._padded(Image.fromarray(image_u8), corners, side)
    left, top = np.rint(corners[0] + pads[:2] - moved[0]).astype(int)
    expected = expected[top : top + seen.height, left : left + seen.width]
    difference = np.abs(np.array(seen).astype(int) - expected)
    assert difference.mean() < 0.5
    assert difference.max() <= 3


@pytest.mark.parametrize("shape", [(1, 1), (2, 300), (3, 3), (1, 900)])
def test_tiny_pictures_are_padded(shape):
    image_u8 = np.full((*shape, 3), 77, np.uint8)
    assert np.all(alignment.crop(image_u8, square(np.array([0.0, 0.0]), 300), 64, 64) == 77)


def test_input_is_left_alone():
    image_u8, corners = picture("edge"), alignment.quad(LANDMARKS["edge"])
    image_before, corners_before = image_u8.copy(), corners.copy()
    image_u8.flags.writeable = False
    alignment.crop(image_u8, corners, 64, 256)
    np.testing.assert_array_equal(image_u8, image_before)
    np.testing.assert_array_equal(corners, corners_before)


@pytest.mark.parametrize(
    ("corners", "reason"),
    [
        (np.zeros((4, 2)), "degenerate"),
        (np.full((4, 2), np.nan), "finite"),
        (np.full((4, 2), np.inf), "finite"),
        (square(np.array([20.0, 20.0]), 10)[:, :1], "shape"),
        (square(np.array([20.0, 20.0]), 0.2), "degenerate"),
        (np.array([[0, 0], [0, 0], [30, 0], [30, 0]]), "degenerate"),
        (np.array([[0, 0], [0, 9e8], [9e8, 9e8], [9, 0]]), "far from a square"),
        (square(np.array([500.0, 20.0]), 50), "outside"),
        (square(np.array([-9e9, 20.0]), 50), "outside"),
    ],
)
def test_bad_quads_are_refused(corners, reason):
    with pytest.raises(ValueError, match=reason):
        alignment.crop(np.zeros((40, 40, 3), np.uint8), corners, 32, 32)


@pytest.mark.parametrize(
    ("landmarks", "reason"),
    [
        (np.zeros((68, 2)), "do not describe a face"),
        (np.full((68, 2), np.nan), "finite"),
        (np.zeros((5, 2)), "shape"),
    ],
)
def test_bad_landmarks_are_refused(landmarks, reason):
    with pytest.raises(ValueError, match=reason):
        alignment.quad(landmarks)


def test_bad_sizes_and_images_are_refused():
    corners = square(np.array([20.0, 20.0]), 10)
    with pytest.raises(ValueError, match="transform_size"):
        alignment.crop(np.zeros((40, 40, 3), np.uint8), corners, 64, 32)
    with pytest.raises(ValueError, match="uint8"):
        alignment.crop(np.zeros((40, 40, 3), np.float32), corners, 32, 32)
    with pytest.raises(ValueError, match="uint8"):
        alignment.crop(np.zeros((40, 40), np.uint8), corners, 32, 32)
