"""The rendered portraits: the same on every call, true to their labels, found by a real detector."""

import subprocess
import sys

import pytest
import torch

from pipeline.portraits import N_PARAMETERS, attributes, landmarks, render, sample
from pipeline.portraits.parameters import Parameters

VIEWS = ("photo", "aligned")
COLUMNS = list(Parameters.__dataclass_fields__)


@pytest.fixture(autouse=True)
def _one_thread():
    """Small fields gain nothing from threads, and lose much where other work waits for the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def with_parameter(z, name, value):
    """The same normals but for one, which becomes `value` after the division by the RMS."""
    z = z / z.square().mean(dim=1, keepdim=True).sqrt()
    rest = (z.square().sum(dim=1, keepdim=True) - z[:, [COLUMNS.index(name)]].square()).sqrt()
    z = z * (N_PARAMETERS - value**2) ** 0.5 / rest
    z[:, COLUMNS.index(name)] = value
    return z


def test_importing_the_package_loads_no_torch():
    code = "import pipeline.portraits, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_samples_are_fixed_by_their_seed():
    assert torch.equal(sample(3, 5), sample(3, 5))
    assert not torch.equal(sample(3, 5), sample(3, 6))
    assert torch.equal(sample(2, 5), sample(3, 5)[:2])


@pytest.mark.parametrize("view", VIEWS)
def test_render_is_deterministic_and_in_range(view):
    z = sample(6, 1)
    images = render(z, 64, view)
    assert images.shape == (6, 3, 64, 64)
    assert images.dtype == torch.float32
    assert images.isfinite().all()
    assert images.min() >= -1
    assert images.max() <= 1
    assert images.flatten(1).std(dim=1).min() > 0.15  # nothing is blank
    assert torch.equal(images, render(z, 64, view))


@pytest.mark.parametrize("view", VIEWS)
def test_one_alone_is_what_it_is_in_a_batch(view):
    z = sample(5, 2)
    alone = torch.cat([render(row[None], 48, view) for row in z])
    torch.testing.assert_close(render(z, 48, view), alone, atol=2e-4, rtol=0)


def test_only_the_direction_of_the_normals_counts():
    z = sample(2, 3)
    torch.testing.assert_close(render(3 * z, 32), render(z, 32), atol=2e-4, rtol=0)


def test_a_picture_of_twice_the_size_shows_the_same():
    z = sample(4, 4)
    large = torch.nn.functional.avg_pool2d(render(z, 128, "aligned"), 2)
    assert (large - render(z, 64, "aligned")).abs().mean() < 0.01


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="z must be"):
        render(torch.zeros(2, 5))
    with pytest.raises(ValueError, match="view must be"):
        render(sample(1, 0), 32, "side")


def test_aligned_view_puts_eyes_and_mouth_where_ffhq_does():
    points = landmarks(sample(64, 7), 256, "aligned")
    eyes = (points[:, 36:42].mean(1) + points[:, 42:48].mean(1)) / 2
    mouth = (points[:, 48] + points[:, 54]) / 2
    # 0.0945 of 1.8 units above the middle, plus the scatter of real alignment.
    assert (eyes.mean(0) - torch.tensor([128, 128 * (1 - 0.0525)])).abs().max() < 6
    assert 40 < (mouth - eyes)[:, 1].mean() < 80


def luminance(images, points, radius=1):
    """Mean grey level around points [N, K, 2]."""
    x, y = points.round().long().unbind(-1)
    rows = torch.arange(len(images))[:, None]
    offsets = range(-radius, radius + 1)
    near = [images.mean(1)[rows, y + j, x + i] for i in offsets for j in offsets]
    return torch.stack(near).mean(0)


@pytest.mark.parametrize("view", VIEWS)
def test_landmarks_lie_on_their_features(view):
    z = sample(16, 8)
    for name in (
        "glasses",
        "beard",
        "melanin",
    ):  # nothing hides the features, light skin shows them
        z = with_parameter(z, name, -1.5)
    images, points = render(z, 128, view), landmarks(z, 128, view)
    unit = (points[:, 36] - points[:, 45]).norm(dim=1)[:, None, None] / 1.35
    cheek = points[:, [31, 35]] + unit * torch.tensor([[-0.35, -0.02], [0.35, -0.02]])
    skin = luminance(images, cheek).mean(1)
    middles = torch.stack([points[:, 37:42].mean(1), points[:, 43:48].mean(1)], dim=1)
    darker = {
        "pupils": luminance(images, middles).mean(1),
        "lips": luminance(images, points[:, [62, 66]]).mean(1),
        "nostrils": luminance(images, points[:, [32, 34]]).mean(1),
    }
    for name, level in darker.items():
        assert (level < skin).float().mean() > 0.85, name


def test_attributes_follow_their_parameters():
    z = sample(8, 9)
    labels = attributes(z)
    assert all(v.shape == (8,) and v.isfinite().all() for v in labels.values())
    for name in ("yaw", "pitch", "smile", "glasses", "beard", "hair_length"):
        low, high = (attributes(with_parameter(z, name, v))[name] for v in (-1.5, 1.5))
        assert (high > low).all(), name
    lighter, darker = (attributes(with_parameter(z, "melanin", v)) for v in (-1.5, 1.5))
    assert (lighter["skin_lightness"] > darker["skin_lightness"]).all()


def test_dlib_finds_each_of_a_few():
    import dlib

    z = sample(4, 10)
    pixels = ((render(z, 256) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
    detector = dlib.get_frontal_face_detector()
    for picture, points in zip(pixels, landmarks(z, 256), strict=True):
        (box,) = detector(picture, 0)
        x, y = points[30].tolist()  # the tip of the nose
        assert box.left() < x < box.right()
        assert box.top() < y < box.bottom()
