import pytest
import torch
import torch.nn.functional as F

from generators.training.sliced_wasserstein import pyramid, sliced_wasserstein


def pictures(n, seed, size=32):
    """Smooth pictures with some noise on them."""
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, 3, 6, 6, generator=draw) * 1.6 - 0.8
    smooth = F.interpolate(coarse, size=(size, size), mode="bilinear")
    return smooth + 0.1 * torch.randn(n, 3, size, size, generator=draw)


def test_equal_sets_have_no_distance_and_samples_of_one_distribution_little():
    real = pictures(48, 0)
    assert sliced_wasserstein(real, real) == [0.0, 0.0]
    assert sliced_wasserstein(real, real[torch.randperm(48)])[1] < 60
    other = sliced_wasserstein(real, pictures(48, 1))
    assert all(0 < distance < 100 for distance in other)
    assert other == sliced_wasserstein(real, pictures(48, 1))


def test_blur_is_seen_at_the_finest_level_and_a_tint_at_the_last():
    real, other = pictures(48, 0), pictures(48, 1)
    same = sliced_wasserstein(real, other)
    blurred = sliced_wasserstein(real, F.avg_pool2d(other, 3, stride=1, padding=1))
    assert blurred[0] > 5 * same[0]
    tinted = sliced_wasserstein(real, other + torch.tensor([0.3, 0.0, -0.3])[:, None, None])
    assert tinted[1] > 5 * same[1]
    assert tinted[0] < 1.1 * same[0]


@pytest.mark.parametrize(("size", "n_levels"), [(8, 1), (16, 1), (64, 3)])
def test_a_pyramid_adds_up_to_the_image(size, n_levels):
    images = pictures(2, 0, size)
    *details, rest = pyramid(images)
    assert len(details) == n_levels - 1
    for detail in reversed(details):
        rest = detail + F.interpolate(rest, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(rest, images)


def test_other_shapes_are_refused():
    with pytest.raises(
        ValueError, match=r"two equal sets .* \[2, 3, 16, 16\] and \[3, 3, 16, 16\]"
    ):
        sliced_wasserstein(torch.zeros(2, 3, 16, 16), torch.zeros(3, 3, 16, 16))
