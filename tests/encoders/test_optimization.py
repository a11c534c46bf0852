"""Latent optimisation: what it reaches, what it promises, what it refuses."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from encoders import ReStyle, UNet, UNetConfig
from encoders.metrics import distances
from encoders.optimization import HYBRID, OptimizationConfig, hybrid, optimize

SHORT = OptimizationConfig(n_steps=12)
UNET = UNetConfig(resolution=32, n_styles=8, w_dim=16, widths=(16, 16, 24, 32))


@pytest.fixture
def model(tiny_generator):
    torch.manual_seed(1)
    encoder = UNet(UNET).eval()
    for head in encoder.heads:
        nn.init.normal_(head.linear.weight, std=0.03)
    tiny_generator.latent_avg.copy_(tiny_generator.estimate_latent_avg(1000))
    return ReStyle(encoder, tiny_generator, tiny_generator.latent_avg, (32, 32))


@pytest.fixture
def drawn(model):
    """Images [3, 3, 32, 32] that the generator can draw, each of latents far from the average."""
    z = torch.randn(3, 16, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        w = model.generator.mapping(z)
        return model.draw(w[:, None].expand(-1, 8, -1)).clamp(-1, 1)


def errors(result):
    return torch.stack([distances.mse(step, result.target) for step in result.thumbnails])


def test_an_image_of_the_generator_is_found_from_the_average(model, drawn):
    result = optimize(model, drawn, OptimizationConfig(n_steps=150, keep_steps=(0, 75)))
    start, half, end = errors(result)
    assert (end < 0.05 * start).all(), (start, end)
    assert (end < half).all()
    assert result.latents.shape == (3, 3, 8, 16)
    assert torch.equal(result.latents[0], model.latent_avg.expand(3, -1, -1))
    torch.testing.assert_close(result.images, model.draw(result.latents[-1]))


@pytest.mark.parametrize("lr", [0.2, 50.0])
def test_a_hybrid_is_never_worse_than_the_encoder(model, drawn, lr):
    """At an absurd learning rate every update is for the worse: what is left is the start."""
    encoded = distances.mse(model.invert(drawn, 2).thumbnails[-1], drawn)
    result = hybrid(model, drawn, 2, replace(HYBRID, n_steps=20, lr=lr, keep_steps=(10,)))
    half, end = errors(result)
    assert (end <= encoded + 1e-6).all()
    assert (end <= half).all()
    assert (end < 0.5 * encoded).all() if lr < 1 else torch.isclose(end, encoded).all()


def test_an_image_alone_equals_itself_in_a_batch(model, drawn):
    for config in (SHORT, replace(HYBRID, n_steps=12)):
        together = optimize(model, drawn, config).latents[-1]
        assert (together - model.latent_avg).abs().max() > 0.1
        for i in range(len(drawn)):
            alone = optimize(model, drawn[i : i + 1], config).latents[-1]
            torch.testing.assert_close(alone[0], together[i], atol=2e-3, rtol=0)


def test_noise_depends_on_the_seed_alone(model, drawn):
    twice = drawn[[0, 0]]
    first = optimize(model, twice, SHORT).latents[-1]
    assert torch.equal(first[0], first[1])
    assert torch.equal(first, optimize(model, twice, SHORT).latents[-1])
    assert not torch.equal(first, optimize(model, twice, replace(SHORT, seed=1)).latents[-1])
    assert not torch.equal(first, optimize(model, twice, replace(SHORT, noise=0.0)).latents[-1])


@pytest.mark.parametrize("config", [SHORT, replace(HYBRID, n_steps=12)])
def test_values_that_are_not_finite_stay_in_their_row(model, drawn, config):
    given = drawn.clone()
    given[1, 0, 5, 5] = torch.nan
    result = optimize(model, given, config)
    assert result.latents[-1, 1].isnan().any()
    others = optimize(model, drawn, config).latents[-1, [0, 2]]
    torch.testing.assert_close(result.latents[-1, [0, 2]], others, atol=2e-3, rtol=0)


def test_the_objective_is_the_callers(model, drawn):
    def upper_half(image, target):
        return distances.mse(image[:, :, :16], target[:, :, :16])

    config = replace(HYBRID, n_steps=40)
    result = optimize(model, drawn, config, objective=upper_half)
    apart = (result.images - drawn).square()
    assert apart[:, :, :16].mean() < 0.2 * apart[:, :, 16:].mean()


def test_images_of_another_size_are_brought_to_the_encoders(model, drawn):
    large = nn.functional.interpolate(drawn, scale_factor=2.0, mode="nearest")
    same = optimize(model, drawn, SHORT)
    result = optimize(model, large, SHORT)
    torch.testing.assert_close(result.target, drawn)
    torch.testing.assert_close(result.latents, same.latents, atol=2e-3, rtol=0)


def test_weights_stay_as_they_are_and_results_can_be_trained_with(model, drawn):
    model.generator.requires_grad_(True)
    with torch.inference_mode():
        result = optimize(model, drawn, SHORT)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not result.latents.requires_grad
    latents = result.latents[-1].requires_grad_()
    (model.draw(latents) - result.target).square().sum().backward()
    assert latents.grad is not None


def test_the_schedule_is_the_projectors():
    config = OptimizationConfig(n_steps=1000, lr=0.1, noise=0.05)
    assert config.rate(0) == 0
    assert config.rate(25) == pytest.approx(0.05)
    assert config.rate(50) == config.rate(750) == pytest.approx(0.1)
    assert config.rate(875) == pytest.approx(0.05)
    assert 0 < config.rate(999) < 1e-5
    assert config.noise_at(0) == 0.05
    assert config.noise_at(375) == pytest.approx(0.05 / 4)
    assert config.noise_at(750) == 0
    assert OptimizationConfig(lr=0.3, rampup=0, rampdown=0).rate(499) == 0.3
    assert OptimizationConfig(noise_ramp=0).noise_at(0) == 0


def test_wrong_arguments_are_named(model, drawn):
    with pytest.raises(ValueError, match="n_steps must be at least 1, not 0"):
        OptimizationConfig(n_steps=0)
    for steps in ((5, 3), (12,), (-1,), (3, 3)):
        with pytest.raises(ValueError, match=r"keep_steps must ascend from 0 to at most 11"):
            OptimizationConfig(n_steps=12, keep_steps=steps)
    with pytest.raises(ValueError, match=r"start must be \[3, 8, 16\], one latent per image"):
        optimize(model, drawn, SHORT, start=torch.zeros(1, 8, 16))
    with pytest.raises(ValueError, match=r"must lie in \[-1, 1\]"):
        optimize(model, drawn * 255, SHORT)
