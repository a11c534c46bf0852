"""A crop pasted back lands where it came from; a difference is added in the face, and nowhere else."""

import numpy as np
import pytest
from PIL import Image

from pipeline.faces import alignment
from pipeline.faces.paste import paste, paste_difference, whole


@pytest.fixture
def photo():
    source = np.random.default_rng(0)
    coarse = source.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((320, 240), Image.Resampling.BICUBIC))


def square(centre, side, degrees):
    """A quad as an alignment gives it: upper left, lower left, lower right, upper right."""
    angle = np.radians(degrees)
    x = np.array([np.cos(angle), np.sin(angle)]) * side / 2
    y = np.array([-x[1], x[0]])
    centre = np.array(centre, float)
    return np.stack([centre - x - y, centre - x + y, centre + x + y, centre + x - y])


def error(a, b):
    return np.abs(a.astype(int) - b.astype(int))


@pytest.mark.parametrize("size", [96, 128, 512])
@pytest.mark.parametrize("degrees", [0, 17, -100])
def test_the_crop_itself_changes_nothing(photo, size, degrees):
    quad = square((150.3, 121.8), 128, degrees)
    crop = alignment.crop(photo, quad, size, max(size, 256))
    pasted = paste(photo, crop, quad)
    # A crop of another size was resampled twice; a shift of a pixel would give 10 times as much.
    assert error(pasted, photo).mean() < 0.6
    assert error(pasted, photo).max() < 24


def test_only_the_quad_changes_and_the_seam_is_soft(photo):
    quad = square((160, 120), 100, 0)
    white = np.full((64, 64, 3), 255, np.uint8)
    pasted = paste(photo, white, quad, feather=0.2)
    assert (pasted[80:160, 120:200] > 250).mean() > 0.6
    assert (pasted[100:140, 140:180] == 255).all()
    outside = np.ones(photo.shape[:2], bool)
    outside[70:171, 110:211] = False
    assert np.array_equal(pasted[outside], photo[outside])
    dark = paste(np.zeros_like(photo), white, quad, feather=0.2)
    steps = np.diff(dark[120, 105:135, 0].astype(int))
    assert steps.min() >= 0
    assert steps.max() < 30
    hard = paste(np.zeros_like(photo), white, quad, feather=0.0)
    assert set(np.unique(hard[120])) <= {0, 255}


def test_a_quad_that_reaches_beyond_the_photo(photo):
    quad = square((5, 230), 120, 30)
    white = np.full((64, 64, 3), 255, np.uint8)
    pasted = paste(photo, white, quad)
    assert (pasted[235, 2] == 255).all()
    assert pasted.shape == photo.shape
    assert np.array_equal(paste(photo, white, square((-500, 0), 50, 0)), photo)


def test_a_degenerate_quad_is_refused(photo):
    with pytest.raises(ValueError, match="no area"):
        paste(photo, photo, np.zeros((4, 2)))
    with pytest.raises(ValueError, match="no area"):
        paste(photo, photo, np.full((4, 2), np.nan))


@pytest.fixture
def landmarks():
    """An oval for a jaw, brows above it, and the rest in the middle: a face of 40 by 60 around (160, 110)."""
    angle = np.linspace(0, np.pi, 17)
    jaw = np.stack([160 - 20 * np.cos(angle), 110 + 30 * np.sin(angle)], axis=1)
    brows = np.stack([np.linspace(145, 175, 10), np.full(10, 100)], axis=1)
    return np.concatenate([jaw, brows, np.full((41, 2), (160, 115))]).astype(np.float32)


def test_where_nothing_differs_the_photo_stays_to_the_pixel(photo, landmarks):
    face = photo[:64, :64]
    quad = square((160, 110), 120, 25)
    assert np.array_equal(paste_difference(photo, face, face, quad, landmarks), photo)


@pytest.mark.parametrize("size", [32, 100, 500])
def test_what_changed_is_added_to_the_photos_own_detail(photo, landmarks, size):
    photo = photo // 2 + 60
    before = np.full((size, size, 3), 100, np.uint8)
    after = before + np.array([20, 0, 30], np.uint8)
    pasted = paste_difference(photo, after, before, square((160, 110), 120, 25), landmarks)
    change = pasted.astype(int) - photo
    np.testing.assert_array_equal(change[110:118, 156:164], np.full((8, 8, 3), (20, 0, 30)))
    assert change[70:75, 158:162].min() == 0  # above the forehead
    assert change[84:88, 158:162, 0].min() >= 10  # on it
    assert not change[:, :125].any()  # beside the face, in the quad
    assert np.abs(np.diff(change[110, :, 0])).max() <= 3  # no seam
    hard = paste_difference(photo, after, before, square((160, 110), 120, 0), None, feather=0)
    assert (hard != photo).any(axis=2).sum() == 121 * 121  # of pixels whose centres lie in it
    everywhere = paste_difference(photo, after, before, square((160, 110), 120, 0), None)
    assert (everywhere[75:145, 125:195, 0] - photo[75:145, 125:195, 0] == 20).all()


def test_of_a_photo_that_was_not_aligned_the_whole_is_the_place(photo):
    photo = photo // 2 + 60
    before, after = np.zeros((48, 64, 3), np.uint8), np.full((48, 64, 3), 40, np.uint8)
    pasted = paste_difference(photo, after, before, whole(photo), None, feather=0)
    assert np.abs(pasted.astype(int) - photo - 40).max() <= 1


def test_landmarks_of_no_face_do_not_matter(photo):
    before, after = np.zeros((48, 48, 3), np.uint8), np.full((48, 48, 3), 40, np.uint8)
    quad = square((160, 110), 120, 0)
    wanted = paste_difference(photo, after, before, quad, None)
    for points in (np.full((68, 2), np.nan), np.full((68, 2), 7.0)):
        assert np.array_equal(paste_difference(photo, after, before, quad, points), wanted)
    far = paste_difference(photo, after, before, quad, np.linspace(0, 1e30, 136).reshape(68, 2))
    assert far.shape == photo.shape
