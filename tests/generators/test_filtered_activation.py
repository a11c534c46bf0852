"""StyleGAN3's filtered activation: every formulation is the definition, also where it works in parts."""

import pytest
import torch

from generators import StyleGAN3Config, filtered_activation, lowpass
from generators.filtered_activation import FilteredActivation, Resampling


def shapes(variant):
    """Every kind of layer once: rates, sizes and filters."""
    layers = StyleGAN3Config.standard(64, variant).layers[:-1]
    return list({(s.up, s.down, s.padding, s.source.size): s for s in layers}.values())


def filters(shape):
    source, target = shape.source, shape.target
    up = lowpass.sinc(shape.up_taps, source.cutoff, source.half_width, shape.rate)
    design = lowpass.jinc if shape.is_radial else lowpass.sinc
    return up, design(shape.down_taps, target.cutoff, target.half_width, shape.rate)


@pytest.mark.parametrize("variant", ["T", "R"])
@pytest.mark.parametrize("clamp", [None, 0.7])
def test_formulations_are_the_definition(variant, clamp, monkeypatch):
    # So small that the result of every layer is made of several parts.
    monkeypatch.setattr(filtered_activation, "STRIP_NUMBERS", 1)
    monkeypatch.setattr(filtered_activation, "MIN_STRIP", 7)
    monkeypatch.setattr(filtered_activation, "STRIP_CHANNELS", 2)
    monkeypatch.setattr(filtered_activation, "BLOCK", 16)
    for shape in shapes(variant):
        # Without symmetry, so that a filter turned around would be seen.
        up, down = (taps.double() * (1 + 0.2 * torch.rand(taps.shape)) for taps in filters(shape))
        resampling = Resampling(shape.up, shape.down, shape.padding, up, down)
        size = shape.source.size + shape.kernel - 1
        x = torch.randn(2, 3, size, size, dtype=torch.float64)
        found = {
            name: FilteredActivation(resampling, size, clamp, name, torch.float64)(x)
            for name in ("reference", "in_place", "fused")
        }
        exact = found.pop("reference")
        assert exact.shape == (2, 3, shape.target.size, shape.target.size)
        for name, maps in found.items():
            atol = 1e-5 if shape.is_radial and name == "fused" else 1e-12
            torch.testing.assert_close(maps, exact, atol=atol, rtol=0, msg=f"{name} {shape}")


def test_a_radial_filter_is_a_few_products_of_two():
    for shape in shapes("R"):
        _, down = filters(shape)
        resampling = Resampling(shape.up, shape.down, shape.padding, filters(shape)[0], down)
        size = shape.source.size
        x = torch.randn(1, 2, size, size, dtype=torch.float64)
        ways = [
            FilteredActivation(resampling, size, None, name, torch.float64)
            for name in ("reference", "fused")
        ]
        exact, found = (way(x) for way in ways)
        assert 0 < (found - exact).abs().max() < 1e-6
        if shape.is_radial:
            assert torch.equal(down, down.t())
            assert torch.linalg.matrix_rank(down, rtol=3e-7) <= 4


def response(taps, frequency, angle, rate=32):
    """How much of a wave in a direction a filter of both axes lets through."""
    at = torch.arange(len(taps)) / rate
    way = torch.tensor(angle)
    phase = at[:, None] * way.sin() + at[None] * way.cos()
    return (taps * torch.exp(2j * torch.pi * frequency * phase)).sum().abs().item()


def test_filters_pass_their_band_and_a_radial_one_in_every_direction():
    along = lowpass.sinc(12, 4.0, 6.0, 32)
    square, radial = torch.outer(along, along), lowpass.jinc(12, 4.0, 6.0, 32)
    for taps in (square, radial):
        assert response(taps, 1.0, 0.0) > 0.9
        assert response(taps, 12.0, 0.0) < 0.01
    along_axis, along_diagonal = (
        [response(taps, 5.0, angle) for taps in (square, radial)] for angle in (0.0, torch.pi / 4)
    )
    apart = [abs(a - d) for a, d in zip(along_axis, along_diagonal, strict=True)]
    assert apart[1] < apart[0] / 10
    with pytest.raises(ValueError, match="an even number of taps, not 11"):
        lowpass.jinc(11, 4.0, 6.0, 32)
