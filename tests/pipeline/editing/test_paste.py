"""A crop pasted back lands where it came from."""

import numpy as np
import pytest
from PIL import Image

from pipeline.faces import alignment
from pipeline.faces.paste import paste


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
