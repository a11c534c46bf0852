"""Encoders as they are at inference, against the trained modules that they are made from."""

import pytest
import torch
from torch import nn

from encoders.folded import fold
from encoders.style_encoder import ENCODERS, StyleEncoder, StyleEncoderConfig

N_STYLES = 8  # coarse, middle and fine ones
VARIANTS = [(kind, n) for kind, design in ENCODERS.items() for n in design.in_channels]


def random_encoder(kind, in_channels):
    """In eval mode, with statistics and slopes as training may leave them."""
    torch.manual_seed(0)
    encoder = StyleEncoder(StyleEncoderConfig(kind, N_STYLES, in_channels))
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.weight, 1, 0.3)
            nn.init.normal_(module.bias, std=0.3)
        if isinstance(module, nn.PReLU):
            nn.init.normal_(module.weight, std=0.3)
    return encoder.requires_grad_(False).eval()


def error(found, expected):
    """Most of the difference, in units of the largest value."""
    return ((found.float() - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "in_channels"), VARIANTS)
@torch.inference_mode()
def test_computes_what_the_trained_module_does(kind, in_channels):
    encoder = random_encoder(kind, in_channels)
    folded = fold(encoder, torch.float32)
    for shape in ((3, 48, 64), (1, 80, 112)):
        x = torch.randn(shape[0], in_channels, *shape[1:])
        assert error(folded(x), encoder(x)) < 1e-5
        if len(x) == 3:
            # In units of the largest value; the longest sums, of 25,088 products, differ by 9e-7.
            assert error(folded(x[1:2]), folded(x)[1:2]) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 2, 5])
@torch.inference_mode()
def test_only_the_styles_of_the_stage_are_in_use(stage):
    encoder = random_encoder("Encoder4Editing", 3)
    encoder.heads.stage = stage
    x = torch.randn(2, 3, 48, 64)
    found = fold(encoder, torch.float32)(x)
    assert error(found, encoder(x)) < 1e-5
    assert torch.equal(found[:, stage + 1 :], found[:, :1].expand(-1, N_STYLES - stage - 1, -1))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.inference_mode()
def test_half_precision_is_no_further_off_than_that_of_the_module(dtype):
    encoder = random_encoder("BackboneEncoder", 6)
    x = torch.randn(3, 6, 48, 64)
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    expected, found = encoder(x), fold(encoder, dtype)(x.to(dtype))
    assert found.dtype == dtype
    after = encoder.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert error(found, expected) < 1.5 * error(encoder.to(dtype)(x.to(dtype)), expected)


@pytest.mark.slow
@torch.inference_mode()
def test_is_traced_as_one_graph():
    torch.compiler.reset()
    folded = fold(random_encoder("GradualStyleEncoder", 3), torch.float32)
    x = torch.randn(1, 3, 48, 64)
    expected = folded(x)  # makes what depends on the size
    traced = torch.compile(folded, dynamic=False, fullgraph=True, backend="aot_eager")
    assert error(traced(x), expected) < 1e-6
