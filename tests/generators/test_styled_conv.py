"""Each formulation of a layer equals the paper's in float32, whichever way it doubles the picture."""

import pytest
import torch

from generators import ops
from generators.styled_conv import (
    RGBWeights,
    conv_weights,
    interleaved,
    polyphase,
    styled_conv2d,
    to_rgb,
)

# (formulation, way of doubling); the second is for layers that double.
WAYS = [("in_place", "transposed"), ("fused", "transposed"), ("fused", "polyphase")]
CASES = [*WAYS, ("in_place", "none"), ("fused", "none")]


def _inputs(n, up, size=8):
    source = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=source)

    out = size if up == "none" else 2 * size
    return (
        normal(n, 12, size, size),
        normal(20, 12, 3, 3) / 10,
        0.1 * normal(20),
        1 + 0.3 * normal(n, 12),
        0.1 * normal(1, 1, out, out),
    )


def _layer(x, weight, bias, style, noise, up, formulation, **how):
    up = "transposed" if formulation == "reference" and up != "none" else up
    weights = conv_weights(weight, bias, up, x.dtype)
    return styled_conv2d(x, weights, style, noise, formulation=formulation, **how)


@pytest.mark.parametrize(("formulation", "up"), CASES)
@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize("size", [4, 8, 32])
def test_every_formulation_equals_the_reference(n, size, formulation, up):
    inputs = _inputs(n, up, size)
    reference = _layer(*inputs, up, "reference", clamp=0.9)
    found = _layer(*inputs, up, formulation, clamp=0.9)
    torch.testing.assert_close(found, reference, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize(("formulation", "up"), CASES)
def test_every_formulation_has_the_gradients_of_the_reference(formulation, up):
    gradients = []
    for how in (formulation, "reference"):
        inputs = [t.clone().requires_grad_() for t in _inputs(2, up)]
        _layer(*inputs, up, how).square().sum().backward()
        gradients.append([t.grad for t in inputs])
    for found, reference in zip(*gradients, strict=True):
        torch.testing.assert_close(found, reference, atol=5e-4, rtol=1e-4)


@pytest.mark.parametrize("up", ["none", "transposed"])
@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("noisy", [True, False])
def test_frozen_weights_have_the_gradients_of_the_reference(n, up, noisy):
    gradients = []
    for how in ("in_place", "reference"):
        x, weight, bias, style, noise = _inputs(n, up, size=72 if n == 3 else 8)
        asked = [x.clone().requires_grad_(), style.clone().requires_grad_()]
        out = _layer(asked[0], weight, bias, asked[1], noise if noisy else None, up, how, clamp=3.0)
        if how == "in_place":
            assert "FrozenConv" in str(out.grad_fn.next_functions), "the usual derivative was taken"
        (out * torch.linspace(-1, 1, out.numel()).view(out.shape)).sum().backward()
        gradients.append([t.grad for t in asked])
    for found, reference in zip(*gradients, strict=True):
        assert (found - reference).norm() < 1e-5 * reference.norm()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_frozen_weights_have_gradients_at_half_precision(dtype):
    x, weight, bias, style, noise = _inputs(3, "transposed", size=16)
    found, reference = (
        torch.autograd.grad((out.float() * torch.sin(out.detach().float())).sum(), own)[0]
        for how, cast in (("in_place", dtype), ("reference", torch.float32))
        for own in [style.clone().requires_grad_()]
        for out in [_layer(x.to(cast), weight, bias, own, noise, "transposed", how)]
    )
    assert (found - reference).norm() < 0.02 * reference.norm()


def test_a_style_alone_has_its_gradient():
    x, weight, bias, style, noise = _inputs(2, "none")
    found, reference = (
        torch.autograd.grad(_layer(x, weight, bias, own, noise, "none", how).sum(), own)[0]
        for how in ("in_place", "reference")
        for own in [style.clone().requires_grad_()]
    )
    torch.testing.assert_close(found, reference, atol=5e-4, rtol=1e-4)


def test_phases_are_moved_as_pixel_shuffle_moves_them():
    x = torch.randn(2, 12, 4, 5)  # 3 channels
    in_its_order = x.reshape(2, 4, 3, 4, 5).transpose(1, 2).reshape(2, 12, 4, 5)
    expected = torch.nn.functional.pixel_shuffle(in_its_order, 2)
    for layout in (torch.contiguous_format, torch.channels_last):
        assert torch.equal(interleaved(x.contiguous(memory_format=layout)), expected)


def test_polyphase_weights_of_one_tap_are_the_filters():
    weight = torch.zeros(1, 1, 3, 3)
    weight[0, 0, 1, 1] = 1
    up = interleaved(
        torch.nn.functional.conv2d(torch.ones(1, 1, 6, 6), polyphase(weight), padding=1)
    )
    expected = ops.upfirdn2d(
        torch.nn.functional.conv_transpose2d(torch.ones(1, 1, 6, 6), weight, stride=2),
        ops.fir_kernel(torch.float32, weight.device, gain=4.0),
        up=1,
        pad=(1, 1),
    )
    torch.testing.assert_close(up, expected)


@pytest.mark.parametrize("formulation", ["in_place", "fused"])
@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("is_inference", [True, False])
def test_colours_equal_the_reference(formulation, n, is_inference):
    x, style = torch.randn(n, 12, 8, 8), torch.randn(n, 12)
    weights = RGBWeights(torch.randn(3, 12), torch.randn(3))
    with torch.inference_mode(is_inference):
        found = to_rgb(x, weights, style, formulation=formulation, clamp=2.0)
        reference = to_rgb(x, weights, style, formulation="reference", clamp=2.0)
    torch.testing.assert_close(found, reference, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("formulation", "up"), CASES)
def test_half_precision_does_not_overflow_with_large_styles(formulation, up):
    x, weight, bias, style, noise = _inputs(2, up)
    out = _layer(x.half(), weight * 300, bias, style * 3000, noise, up, formulation)
    expected = _layer(x, weight, bias, style, noise, up, "reference")
    torch.testing.assert_close(out.float(), expected, atol=0.02, rtol=0.02)


@pytest.mark.parametrize("pad", [1, 2])
def test_blurring_by_shifted_slices_equals_the_convolution(pad):
    x = torch.randn(2, 3, 5, 7)
    torch.testing.assert_close(ops.shifted_blur2d(x, pad, 4.0), ops.blur2d(x, pad, 4.0))


def test_a_layer_takes_styles_of_its_own_width_only():
    x, weight, bias, style, _ = _inputs(2, "none")
    for wrong in (style[:, :-1], style[:1]):
        with pytest.raises(AssertionError, match="style"):
            styled_conv2d(x, conv_weights(weight, bias), wrong)
