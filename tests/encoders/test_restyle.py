"""The residual loop: what it computes, what it promises, what it refuses."""

import pytest
import torch
from recorder import Recorder
from torch import nn

from encoders import ReStyle, UNet, UNetConfig
from encoders.heads import ProgressiveHeads
from encoders.metrics import distances
from encoders.style_encoder import StyleEncoder, StyleEncoderConfig
from generators import Generator, GeneratorConfig

UNET = UNetConfig(resolution=32, n_styles=8, w_dim=16, widths=(16, 16, 24, 32))


@pytest.fixture
def model(tiny_generator):
    torch.manual_seed(1)
    encoder = UNet(UNET).eval()
    for head in encoder.heads:
        nn.init.normal_(head.linear.weight, std=0.03)
    return ReStyle(encoder, tiny_generator, 0.1 * torch.randn(8, 16), (32, 32))


def images(n, size=32, seed=2):
    noise = torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed))
    return noise.clamp(-1, 1)


def test_each_step_adds_the_answer_to_image_beside_reconstruction(tiny_generator):
    encoder = Recorder(torch.randn(1, 8, 16))
    model = ReStyle(encoder, tiny_generator, torch.randn(16), (32, 32))
    given = images(2)
    result = model.invert(given, n_steps=3, keep_images=True)
    average = model.latent_avg.expand(2, -1, -1)
    for k in range(3):
        torch.testing.assert_close(result.latents[k], average + (k + 1) * encoder.deltas)
        torch.testing.assert_close(result.images[k], model.draw(result.latents[k]))
        before = model.draw(average if k == 0 else result.latents[k - 1])
        torch.testing.assert_close(encoder.seen[k], torch.cat([given, before], dim=1))


def test_results_have_the_promised_shapes_and_types(model):
    result = model.invert(images(3), n_steps=4)
    assert result.latents.shape == (4, 3, 8, 16)
    assert result.images.shape == (3, 3, 32, 32)
    kept = model.invert(images(3), n_steps=4, keep_images=True)
    assert kept.images.shape == (4, 3, 3, 32, 32)
    assert torch.equal(kept.images[-1], result.images)
    assert {t.dtype for t in (result.latents, result.images, kept.images)} == {torch.float32}
    assert model.average_image.shape == (3, 32, 32)
    assert torch.equal(model.average_image, model.draw(model.latent_avg[None])[0])


def test_the_first_steps_do_not_depend_on_how_many_follow(model):
    five, three = model.invert(images(2), n_steps=5), model.invert(images(2), n_steps=3)
    assert torch.equal(five.latents[:3], three.latents)


def test_an_image_alone_equals_itself_in_a_batch(model):
    together = model.invert(images(4))
    assert together.latents.std(dim=1).max() > 1e-2
    for i in range(4):
        alone = model.invert(images(4)[i : i + 1])
        torch.testing.assert_close(alone.latents[:, 0], together.latents[:, i], atol=1e-4, rtol=0)
        torch.testing.assert_close(alone.images[0], together.images[i], atol=1e-4, rtol=0)


def test_a_published_encoder_too_answers_each_image_by_itself():
    torch.manual_seed(3)
    encoder = StyleEncoder(StyleEncoderConfig("BackboneEncoder", n_styles=2)).eval()
    x = torch.randn(3, 6, 64, 64)
    with torch.inference_mode():
        together = encoder(x)
        alone = torch.cat([encoder(one[None]) for one in x])
    assert together.shape == (3, 2, 512)
    # Untrained, its answers differ by little: the tolerance is a thousandth of that.
    spread = together.std(dim=0).max().item()
    torch.testing.assert_close(alone, together, atol=1e-3 * spread, rtol=0)


def test_progressive_heads_use_the_offsets_of_their_stage_only():
    maps = [torch.randn(2, 512, 4, 4)]
    heads = ProgressiveHeads(n_styles=3, stage=1)
    with torch.inference_mode():
        early = heads(maps)
        heads.stage = 2
        late = heads(maps)
    assert torch.equal(early[:, 2], early[:, 0])
    assert torch.equal(early[:, :2], late[:, :2])
    assert not torch.equal(late[:, 2], late[:, 0])


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_images_are_within_40_db(model, precision):
    full = model.invert(images(4), keep_images=True)
    half_model = ReStyle(
        model.encoder, model.generator, model.latent_avg, model.input_size, precision
    )
    half = half_model.invert(images(4), keep_images=True)
    assert next(half_model.networks().encode.parameters()).dtype != torch.float32
    assert next(half_model.encoder.parameters()).dtype == torch.float32
    assert half.latents.dtype == half.images.dtype == torch.float32
    for half_images, full_images in zip(half.images, full.images, strict=True):
        psnr = distances.psnr(half_images, full_images)
        assert psnr.min() > 40
        assert psnr.max() < distances.MAX_PSNR


def test_other_sizes_are_averaged_or_resampled(model):
    large = images(2, size=96)
    blocks = large.unflatten(3, (32, 3)).unflatten(2, (32, 3)).mean(dim=(3, 5))
    torch.testing.assert_close(model.to_input(large), blocks)
    assert torch.equal(
        model.invert(large, n_steps=1).latents, model.invert(model.to_input(large), 1).latents
    )
    flat = torch.full((1, 3, 50, 41), 0.25)
    torch.testing.assert_close(model.to_input(flat), torch.full((1, 3, 32, 32), 0.25))
    # A filter as wide as the reduction: stripes of one pixel turn grey instead of aliasing.
    stripes = torch.ones(1, 3, 100, 100)
    stripes[..., ::2] = -1
    assert model.to_input(stripes)[..., 2:-2].abs().max() < 0.2


def test_encoder_and_generator_may_differ_in_size():
    generator = Generator(GeneratorConfig(resolution=64, channels=(8,) * 5, z_dim=16, w_dim=16))
    encoder = UNet(UNetConfig(resolution=32, n_styles=10, w_dim=16, widths=(16, 16, 16, 16)))
    model = ReStyle(encoder, generator, torch.zeros(16), (32, 32))
    assert model.average_image.shape == (3, 32, 32)
    result = model.invert(images(2, size=40), n_steps=2, keep_images=True)
    assert result.images.shape == (2, 2, 3, 64, 64)
    assert torch.equal(result.target, model.to_input(images(2, size=40)))
    for thumbnails, drawn in zip(result.thumbnails, result.images, strict=True):
        assert torch.equal(thumbnails, model.to_input(drawn))


def test_values_that_are_not_finite_show_and_stay_in_their_row(model):
    given = images(3)
    given[1, 0, 5, 5] = torch.nan
    result = model.invert(given)
    assert result.latents[:, 1].isnan().any()
    torch.testing.assert_close(
        result.latents[:, [0, 2]], model.invert(images(3)).latents[:, [0, 2]], atol=1e-4, rtol=0
    )


def test_results_and_steps_can_be_trained_with(model):
    result = model.invert(images(1))
    latents = result.latents[-1].requires_grad_()
    (model.draw(latents) - result.images).square().sum().backward()
    assert latents.grad is not None
    start, average = model.start(1)
    model.draw(model.step(images(1), average, start)).sum().backward()
    assert model.encoder.stem.weight.grad.abs().sum() > 0


def test_an_untrained_u_net_starts_at_the_average(tiny_generator):
    model = ReStyle(UNet(UNET), tiny_generator, torch.randn(8, 16), (32, 32))
    assert (model.invert(images(2)).latents - model.latent_avg).abs().max() < 0.05


def test_the_default_u_net_is_compact():
    unet = UNet(UNetConfig())
    assert sum(p.numel() for p in unet.parameters()) < 3.5e6
    assert unet(torch.zeros(2, 6, 64, 64)).shape == (2, 10, 128)


@pytest.mark.parametrize(
    ("given", "n_steps", "says"),
    [
        (torch.zeros(3, 32, 32), 5, r"images must be \[N, 3, height, width\].*\[3, 32, 32\]"),
        (torch.zeros(1, 4, 32, 32), 5, r"not \[1, 4, 32, 32\]"),
        (torch.zeros(0, 3, 32, 32), 5, "at least one image"),
        (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), 5, "floating point.*torch.uint8"),
        (torch.full((1, 3, 32, 32), 255.0), 5, r"must lie in \[-1, 1\], but reach 255"),
        (torch.zeros(1, 3, 32, 32), 0, "n_steps must be a whole number of at least 1, not 0"),
        (torch.zeros(1, 3, 32, 32), 2.5, "n_steps"),
        (torch.zeros(1, 3, 32, 32), True, "n_steps"),
    ],
)
def test_wrong_arguments_are_named(model, given, n_steps, says):
    with pytest.raises(ValueError, match=says):
        model.invert(given, n_steps=n_steps)


def test_what_does_not_fit_together_is_refused(tiny_generator):
    with pytest.raises(ValueError, match=r"\[18, 512\], but the generator takes \[8, 16\]"):
        ReStyle(UNet(UNET), tiny_generator, torch.zeros(18, 512), (32, 32))
    with pytest.raises(ValueError, match="fp32, tf32, bf16, fp16, not 'int8'"):
        ReStyle(UNet(UNET), tiny_generator, torch.zeros(16), (32, 32), "int8")
    with pytest.raises(ValueError, match="power of two and at least 64, not 48"):
        UNetConfig(resolution=48)
    with pytest.raises(ValueError, match="divisible by 8"):
        UNetConfig(widths=(12, 16, 24))
    with pytest.raises(ValueError, match="n_levels is 9"):
        UNetConfig(n_levels=9)
    with pytest.raises(
        ValueError, match="'Encoder9' is unknown; the known types are BackboneEncoder"
    ):
        StyleEncoder(StyleEncoderConfig("Encoder9", 18))
