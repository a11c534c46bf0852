"""A face is followed, its places are interpolated and averaged, and nothing is mixed that is not one face."""

import numpy as np
import pytest

from pipeline.faces import alignment, tracking
from pipeline.faces.tracking import NOTHING, Detections


@pytest.fixture(scope="module")
def face():
    """Landmarks of a face in the middle of a picture of 256 pixels."""
    from pipeline import portraits

    return portraits.landmarks(portraits.sample(1, 3), 256, "photo")[0].numpy().astype(np.float32)


def seen(*faces):
    return Detections(np.stack(faces), tuple(1 - i / 10 for i in range(len(faces))))


def followed(frames, gap):
    found = [*tracking.follow(enumerate(frames), gap)]
    assert [one.frame for one in found] == [*range(len(frames))]
    return [one.position for one in found]


def shifts(positions, face):
    return [None if p is None else float((p.landmarks - face).mean()) for p in positions]


def test_the_kernel_of_five_frames_is_the_published_one(parity):
    assert tracking.kernel(5) == pytest.approx([0.25, 0.75, 1, 0.75, 0.25])
    expected = np.load(parity.folder / "sg3_video_and_edits.npz")
    latents = parity.fill.normal("video_latents", (9, 16, 8)).numpy()
    latents[:, 9:] = latents[:, 9:].mean(axis=0)
    both = {"smoothed_latents": latents, "smoothed_transforms": expected["video_transforms"]}
    for name, values in both.items():
        means = [
            tracking.smoothed(around, tracking.kernel(5))
            for around in tracking.windows([*values], 2)
        ]
        # There, two frames at either end are dropped.
        np.testing.assert_allclose(means[2:-2], expected[name], atol=1e-6)
        assert len(means) == len(values)


def test_at_an_end_and_beside_a_gap_the_weights_left_add_up_to_one():
    values = [np.full(2, 3.0), None, np.full(2, 3.0), np.full(2, 6.0)]
    means = [
        tracking.smoothed(around, tracking.kernel(3)) for around in tracking.windows(values, 1)
        if around[1] is not None
    ]  # fmt: skip
    np.testing.assert_allclose([mean[0] for mean in means], [3, 4, 5])


def test_the_nearest_face_is_followed_not_the_largest(face):
    small, large = face * 0.6, (face - face.mean(0)) * 0.9 + [180, 160]
    frames = [seen(small)] + [seen(large, small + i) for i in range(1, 4)]
    positions = followed(frames, gap=2)
    assert [p.face for p in positions] == [0, 1, 1, 1]
    assert shifts(positions, small) == pytest.approx([0, 1, 2, 3], abs=1e-4)
    assert {p.track for p in positions} == {0}


def test_a_face_that_is_lost_for_a_while_is_interpolated(face):
    elsewhere = face + 300
    frames = [NOTHING, seen(face), NOTHING, seen(elsewhere), seen(face + 6), NOTHING]
    positions = followed(frames, gap=2)
    assert shifts(positions, face) == pytest.approx([None, 0, 2, 4, 6, None], abs=1e-4)
    told = [p and (p.is_interpolated, p.score) for p in positions]
    assert told == [None, (False, 1), (True, None), (True, None), (False, 1), None]


def test_a_face_that_is_lost_for_longer_is_no_face_and_comes_back_as_another_track(face):
    frames = [seen(face), *[NOTHING] * 3, seen(face + 400, face + 5), seen(face + 400)]
    positions = followed(frames, gap=2)
    assert [p and p.track for p in positions] == [0, None, None, None, 1, None]
    assert shifts(positions, face)[4] == pytest.approx(
        5, abs=1e-4
    )  # near its place, not the largest
    assert followed([*frames[:1], NOTHING, *frames[:1]], gap=0)[1] is None


def test_landmarks_are_averaged_within_a_track_alone(face):
    frames = [seen(face), seen(face + 4), NOTHING, NOTHING, seen(face + 90), seen(face + 94)]
    smooth = [*tracking.smooth(tracking.follow(enumerate(frames), 1), 5)]
    # 1 and 0.75 are the weights of a frame and of the next.
    expected = [12 / 7, 16 / 7, None, None, 90 + 12 / 7, 90 + 16 / 7]
    assert shifts([one.position for one in smooth], face) == pytest.approx(expected, abs=1e-4)
    assert alignment.quad(smooth[0].position.landmarks).shape == (4, 2)


def test_no_more_frames_are_held_than_the_gap_and_half_a_window(face):
    taken = []

    def frames():
        for i in range(100):
            taken.append(i)
            yield i, (NOTHING if 40 <= i < 44 or i >= 80 else seen(face))

    for one in tracking.smooth(tracking.follow(frames(), 4), 7):
        assert len(taken) - one.frame <= 4 + 3 + 1
    assert len(taken) == 100
