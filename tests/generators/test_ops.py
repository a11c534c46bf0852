"""The fast path of each operation equals its readable reference."""

import pytest
import torch

from generators import ops


def _inputs(n: int, up: bool):
    source = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=source)

    size = 16 if up else 8
    return (
        normal(n, 12, 8, 8),
        normal(20, 12, 3, 3) / 10,
        1 + 0.3 * normal(n, 12),
        0.1 * normal(20),
        0.1 * normal(1, 1, size, size),
    )


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("n", [1, 3])
def test_fast_styled_conv_equals_reference(n, up):
    inputs = _inputs(n, up)
    fast = ops.styled_conv2d(*inputs, up=up)
    reference = ops.styled_conv2d(*inputs, up=up, reference=True)
    torch.testing.assert_close(fast, reference, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("up", [False, True])
def test_fast_styled_conv_has_the_gradients_of_the_reference(up):
    gradients = []
    for reference in (False, True):
        inputs = [t.clone().requires_grad_() for t in _inputs(2, up)]
        ops.styled_conv2d(*inputs, up=up, reference=reference).square().sum().backward()
        gradients.append([t.grad for t in inputs])
    for fast, reference in zip(*gradients, strict=True):
        torch.testing.assert_close(fast, reference, atol=1e-4, rtol=1e-4)


def test_fast_upsampling_equals_reference_at_the_border_too():
    x = torch.randn(2, 3, 5, 7)
    torch.testing.assert_close(ops.upsample2d(x), ops.upsample2d(x, reference=True))


def test_fast_to_rgb_equals_reference():
    x, style = torch.randn(3, 12, 8, 8), torch.randn(3, 12)
    weight, bias = torch.randn(3, 12, 1, 1), torch.randn(3)
    fast = ops.to_rgb(x, weight, style, bias)
    torch.testing.assert_close(fast, ops.to_rgb(x, weight, style, bias, reference=True))


def test_half_precision_does_not_overflow_with_large_styles():
    x, weight, style, bias, noise = _inputs(2, up=False)
    out = ops.styled_conv2d(x.half(), weight * 300, style * 3000, bias, noise)
    expected = ops.styled_conv2d(x, weight, style, bias, noise, reference=True)
    torch.testing.assert_close(out.float(), expected, atol=0.02, rtol=0.02)
