"""The fast path of each filter equals its readable reference."""

import torch

from generators import ops


def test_fast_upsampling_equals_reference_at_the_border_too():
    x = torch.randn(2, 3, 5, 7)
    torch.testing.assert_close(ops.upsample2d(x), ops.upsample2d(x, reference=True))


def test_blurring_is_the_definition():
    x = torch.randn(2, 3, 5, 7)
    expected = ops.upfirdn2d(x, ops.fir_kernel(x.dtype, x.device, 4.0), up=1, pad=(2, 2))
    torch.testing.assert_close(ops.blur2d(x, 2, 4.0), expected)
