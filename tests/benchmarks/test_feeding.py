"""The benchmark of feeding: the ways it compares give the same, and its stages run."""

import dlib
import numpy as np
import pytest

from benchmarks.feeding import before
from benchmarks.feeding.__main__ import CROP, Photo, measure, photos, table
from benchmarks.feeding.search import WAYS, best_box, moved, quad
from encoders.metrics.dlib_face import load_dlib_face
from pipeline.faces import alignment, detection, images


@pytest.fixture(scope="module")
def taken():
    """A photo whose quad leaves the picture, with its stages at hand, and one inside."""
    path = detection.recogniser_path()
    networks = dlib.face_recognition_model_v1(path), load_dlib_face(path)
    pictures = photos()
    return [Photo(pictures[name], *networks) for name in ("real, at the edge", "real")]


@pytest.mark.slow
def test_both_ways_give_the_same(taken):
    photo = taken[0]
    assert photo.is_padded
    np.testing.assert_array_equal(before.decode(photo.data), images.decode(photo.data))
    old = before.crop(photo.image_u8, photo.quad, CROP, CROP).astype(int)
    difference = np.abs(old - alignment.crop(photo.image_u8, photo.quad, CROP, CROP))
    assert 0 < difference.max() <= 3
    assert difference.mean() < 0.3


@pytest.mark.slow
def test_the_table_adds_up(taken):
    rows = table([measure(photo, 1) for photo in taken])
    aligned = ("decode", "search copy", "detection", "landmarks", "crop")
    expected = sum(rows[name]["now_ms"] for name in aligned)
    assert rows["a photo, aligned"]["now_ms"] == pytest.approx(expected, abs=0.05)
    assert rows["padded crop"]["before_ms"] > 0


@pytest.mark.slow
def test_every_way_to_search_finds_the_portrait(taken):
    photo = taken[1]
    for side, mode in WAYS.values():
        found = quad(photo.image_u8, best_box(photo.image_u8, side, mode))
        assert moved(found, photo.quad) < 6
