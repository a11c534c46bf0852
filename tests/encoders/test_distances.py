"""Distances against independent, slow computations."""

import numpy as np
import pytest
import torch

from encoders.metrics import distances


def pair(n=3, height=64, width=64, seed=0):
    source = torch.Generator().manual_seed(seed)
    a = torch.rand(n, 3, height, width, generator=source) * 2 - 1
    a = torch.nn.functional.avg_pool2d(a, 5, 1, 2) * 3
    b = (0.7 * a + 0.2 * torch.randn(a.shape, generator=source)).clamp(-1, 1)
    return a.clamp(-1, 1), b


def slow_ms_ssim(a, b):
    """One image [3, h, w] in float64: every window a weighted sum over its pixels."""
    offsets = np.arange(11) - 5
    taps = np.exp(-(offsets**2) / (2 * 1.5**2))
    window = np.outer(taps, taps) / taps.sum() ** 2
    weights = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])
    n_scales = sum(min(a.shape[1:]) // 2**k >= 11 for k in range(5))
    weights = weights[:n_scales] / weights[:n_scales].sum()
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    channels = []
    for x, y in zip(a, b, strict=True):
        product = 1.0
        for k, weight in enumerate(weights):
            ssim, contrast = [], []
            for i in range(x.shape[0] - 10):
                for j in range(x.shape[1] - 10):
                    p, q = x[i : i + 11, j : j + 11], y[i : i + 11, j : j + 11]
                    mp, mq = (window * p).sum(), (window * q).sum()
                    vp, vq = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum()
                    cov = (window * (p - mp) * (q - mq)).sum()
                    contrast.append((2 * cov + c2) / (vp + vq + c2))
                    ssim.append(contrast[-1] * (2 * mp * mq + c1) / (mp**2 + mq**2 + c1))
            product *= np.mean(ssim if k == n_scales - 1 else contrast) ** weight
            h, w = x.shape[0] // 2, x.shape[1] // 2
            x, y = (z[: 2 * h, : 2 * w].reshape(h, 2, w, 2).mean(axis=(1, 3)) for z in (x, y))
        channels.append(product)
    return np.mean(channels)


@pytest.mark.parametrize(("height", "width"), [(48, 50), (176, 40)])
def test_ms_ssim_equals_a_slow_computation(height, width):
    a, b = pair(1, height, width)
    expected = slow_ms_ssim(a[0].double().numpy(), b[0].double().numpy())
    assert 0.1 < expected < 0.95
    np.testing.assert_allclose(distances.ms_ssim(a, b), [expected], atol=2e-5)


def test_ms_ssim_of_five_scales_equals_a_slow_computation():
    a, b = pair(1, 176, 176)
    expected = slow_ms_ssim(a[0, :1].double().numpy(), b[0, :1].double().numpy())
    grey = [x[:, :1].expand(-1, 3, -1, -1) for x in (a, b)]
    np.testing.assert_allclose(distances.ms_ssim(*grey), [expected], atol=2e-5)


def test_mse_and_psnr_are_on_the_range_of_two():
    black, white = torch.full((2, 3, 8, 8), -1.0), torch.full((2, 3, 8, 8), 1.0)
    assert distances.mse(black, white).tolist() == [4.0, 4.0]
    assert distances.psnr(black, white).tolist() == [0.0, 0.0]
    a, b = pair()
    u8 = [np.asarray((x + 1) * 127.5, dtype=np.float64) for x in (a, b)]
    expected = 10 * np.log10(255**2 / ((u8[0] - u8[1]) ** 2).mean(axis=(1, 2, 3)))
    np.testing.assert_allclose(distances.psnr(a, b), expected, atol=1e-3)


def test_equal_images_have_finite_perfect_values():
    a, _ = pair()
    assert distances.mse(a, a).tolist() == [0.0] * 3
    torch.testing.assert_close(distances.psnr(a, a), torch.full((3,), distances.MAX_PSNR))
    torch.testing.assert_close(distances.ms_ssim(a, a), torch.ones(3))


@pytest.mark.parametrize("name", ["mse", "psnr", "ms_ssim", "multi_scale_l1"])
def test_one_number_for_each_image_whatever_the_batch(name):
    distance = getattr(distances, name)
    a, b = pair()
    together = distance(a, b)
    assert together.shape == (3,)
    assert together.dtype == torch.float32
    assert together.std() > 0
    for i in range(3):
        torch.testing.assert_close(distance(a[i : i + 1], b[i : i + 1])[0], together[i])
    assert distance(a.bfloat16(), b.bfloat16()).dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(distance(a, b), together)


@pytest.mark.parametrize("name", ["mse", "psnr", "ms_ssim"])
def test_gradients_are_finite_even_for_opposite_images(name):
    a, b = pair()
    for other in (b, -a):
        moving = other.clone().requires_grad_()
        getattr(distances, name)(a, moving).sum().backward()
        assert moving.grad.isfinite().all()
        assert moving.grad.abs().sum() > 0 or name == "ms_ssim"


def test_ms_ssim_of_opposite_images_is_zero_and_nan_stays():
    a, _ = pair()
    assert distances.ms_ssim(a, -a).max() < 1e-6
    a[1, 0, 3, 3] = torch.nan
    for name in ("mse", "psnr", "ms_ssim"):
        values = getattr(distances, name)(a, a)
        assert values.isnan().tolist() == [False, True, False]


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"one shape, not \[2, 3, 8, 8\] and \[1, 3, 8, 8\]"):
        distances.mse(torch.zeros(2, 3, 8, 8), torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match="at least 11 pixels, not 8"):
        distances.ms_ssim(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8))


def test_multi_scale_l1_equals_its_terms_one_by_one():
    a, b = pair(2, 24, 20)
    expected = []
    for x, y in zip(a.double().numpy(), b.double().numpy(), strict=True):
        value = sum(np.abs(np.diff(x, axis=i) - np.diff(y, axis=i)).mean() for i in (1, 2))
        for scale in (1, 2, 4, 8):
            h, w = x.shape[1] // scale, x.shape[2] // scale
            cut = [z[:, : h * scale, : w * scale] for z in (x, y)]
            small = [z.reshape(3, h, scale, w, scale).mean(axis=(2, 4)) for z in cut]
            value += np.abs(small[0] - small[1]).mean()
        expected.append(value)
    np.testing.assert_allclose(distances.multi_scale_l1(a, b), expected, rtol=1e-5)


def test_a_difference_counts_where_there_is_much_to_see():
    target = torch.zeros(2, 3, 32, 32)
    target[:, :, :, 8] = 1  # a line
    off_the_line, on_the_line = target.clone(), target.clone()
    off_the_line[:, :, 4, 20] += 1
    on_the_line[:, :, 4, 8] -= 1
    assert torch.equal(distances.detail_l1(target, target), torch.zeros(2))
    assert (
        distances.detail_l1(on_the_line, target) > 5 * distances.detail_l1(off_the_line, target)
    ).all()
    flat = torch.zeros(1, 3, 32, 32)
    assert distances.detail_l1(flat + 0.5, flat).isfinite().all()


def test_detail_weights_have_a_mean_of_one():
    """So a constant difference counts as much as without weights."""
    target = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(
        distances.detail_l1(target + 0.25, target), torch.full((2,), 0.25), atol=1e-5
    )


def test_sharpness_is_the_mean_gradient():
    ramp = torch.arange(16.0).expand(1, 3, 16, 16)
    assert distances.sharpness(ramp).item() == pytest.approx(1.0)
    assert distances.sharpness(ramp + 2 * ramp.transpose(2, 3)).item() == pytest.approx(3.0)
