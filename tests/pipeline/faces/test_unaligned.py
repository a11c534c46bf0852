"""How a face lay in its photo, against the published numbers."""

import json

import numpy as np
import pytest

from pipeline.faces import alignment, unaligned

NAMES = ("portrait", "turned_left", "video_frame_turned_right", "video_frame_turned_left")


@pytest.fixture(scope="module")
def case(parity):
    return json.loads((parity.folder / "sg3_landmark_transforms.json").read_text())


@pytest.mark.parametrize("name", NAMES)
def test_reproduces_the_published_transforms(case, name):
    side, told = case["aligned_size"], case["examples"][name]
    places = [np.array(told[f"{kind}_landmarks"]) for kind in ("aligned", "cropped")]
    turned = np.array(told["rotated_aligned_landmarks"])
    found = unaligned.pose(*places, side, turned)
    assert abs(found.degrees - told["rotation_angle"]) < 1e-6
    np.testing.assert_allclose(found.shift, told["translation"], atol=1e-6)
    np.testing.assert_allclose(found.motion, told["transform"], atol=1e-6)
    np.testing.assert_allclose(found.transform, told["inverse_transform"], atol=1e-6)
    # Landmarks that are turned, not found again in whole pixels.
    exact = unaligned.pose(*places, side)
    np.testing.assert_allclose(exact.motion, told["transform"], atol=0.5 / side)


@pytest.mark.parametrize("name", NAMES[:2])
def test_a_row_tells_it_by_its_landmarks_and_its_quad(case, name):
    told = case["examples"][name]
    quad = np.array(told["align_quad"])
    np.testing.assert_allclose(unaligned.upright(quad), told["crop_quad"], atol=1e-9)
    found = unaligned.in_crop(np.array(told["raw_landmarks"]), quad)
    # Theirs are found in pictures of 1024 pixels, in whole pixels.
    np.testing.assert_allclose(found.motion, told["transform"], atol=5e-3)
    np.testing.assert_allclose(found.shift, 0, atol=1e-9)


def test_an_upright_face_stays_where_it_is(case):
    landmarks = np.array(case["examples"]["portrait"]["raw_landmarks"], float)
    half = np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]]) * 90
    found = unaligned.in_crop(landmarks, landmarks.mean(axis=0) + half)
    np.testing.assert_allclose(found.motion, np.eye(3), atol=1e-7)


def test_what_is_no_face_is_refused():
    quad = alignment.quad(np.random.default_rng(0).uniform(0, 100, (68, 2)))
    with pytest.raises(ValueError, match="the eyes are in one point"):
        unaligned.in_crop(np.ones((68, 2)), quad)
    with pytest.raises(ValueError, match="must be finite"):
        unaligned.in_crop(np.full((68, 2), np.nan), quad)
    with pytest.raises(ValueError, match="no area"):
        unaligned.in_crop(np.ones((68, 2)), np.zeros((4, 2)))
