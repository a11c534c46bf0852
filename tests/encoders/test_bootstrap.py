"""Two models one after the other, and models whose picture is a part of the square."""

import pytest
import torch
from recorder import Recorder
from torch import nn

from encoders import ReStyle, View, bootstrap
from encoders.restyle import SinglePass
from generators import Generator


@pytest.fixture
def models(tiny_generator):
    """Two models whose averages, deltas and generators differ."""
    torch.manual_seed(4)
    other = Generator(tiny_generator.config).requires_grad_(False)
    return [
        ReStyle(Recorder(torch.randn(1, 8, 16)), generator, torch.randn(8, 16), (32, 32))
        for generator in (tiny_generator, other)
    ]


def images(n=2, height=32, width=32):
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(5)) * 2 - 1


def test_the_first_step_is_the_first_models_and_the_others_the_seconds(models):
    first, second = models
    result = bootstrap(first, second).invert(images(), n_steps=3, keep_images=True)
    w = first.latent_avg + first.encoder.deltas[0]
    for k, (model, step) in enumerate([(first, 0), (second, 1), (second, 1)]):
        w = w + step * second.encoder.deltas[0]
        torch.testing.assert_close(result.latents[k], w.expand(2, -1, -1))
        torch.testing.assert_close(result.images[k], model.draw(result.latents[k]))
    assert len(first.encoder.seen) == 1
    # The second model goes on from the image that the first one drew.
    beside = torch.cat([images(), result.images[0]], dim=1)
    torch.testing.assert_close(second.encoder.seen[0], beside)
    assert torch.equal(result.target, images())
    last = bootstrap(first, second).invert(images(), n_steps=3)
    assert torch.equal(last.images, result.images[-1])


def test_one_step_is_the_first_models_alone(models):
    first, second = models
    both, alone = bootstrap(first, second).invert(images(), 1), first.invert(images(), 1)
    assert torch.equal(both.latents, alone.latents)
    assert torch.equal(both.images, alone.images)
    assert not second.encoder.seen


def test_a_bootstrap_is_seen_as_a_model(models):
    both = bootstrap(*models)
    assert both.generator is models[1].generator
    assert torch.equal(both.average_image, models[0].average_image)
    assert torch.equal(both.latent_avg, models[0].latent_avg)


def test_a_single_pass_model_may_come_first_but_not_second(models):
    one = SinglePass(Recorder(torch.randn(8, 16)), models[0].generator, torch.zeros(16), (32, 32))
    result = bootstrap(one, models[1]).invert(images(), n_steps=2)
    torch.testing.assert_close(result.latents[0], one.encoder.deltas.expand(2, -1, -1))
    assert one.encoder.seen[0].shape == (2, 3, 32, 32)
    with pytest.raises(ValueError, match="the second model sees no reconstruction"):
        bootstrap(models[0], one)


def test_models_that_do_not_fit_are_refused(models):
    first, second = models
    other = ReStyle(second.encoder, second.generator, torch.zeros(16), (16, 32))
    says = r"the input size of the first is \(32, 32\), of the second \(16, 32\)"
    with pytest.raises(ValueError, match=says):
        bootstrap(first, other)
    other = ReStyle(
        second.encoder, second.generator, torch.zeros(16), (32, 32), view=View(rows=(4, 28))
    )
    with pytest.raises(ValueError, match="the view of the first is"):
        bootstrap(first, other)


def test_only_what_the_view_shows_is_seen_by_encoder_and_user(tiny_generator):
    encoder, view = Recorder(torch.randn(1, 8, 16)), View(rows=(4, 28), columns=(0, 16))
    model = ReStyle(encoder, tiny_generator, torch.randn(16), (12, 8), view=view)
    result = model.invert(images(2, 24, 16), n_steps=2, keep_images=True)
    whole = tiny_generator.synthesis(result.latents[1])
    assert result.images.shape == (2, 2, 3, 24, 16)
    assert torch.equal(result.images[1], whole[:, :, 4:28, :16])
    assert result.thumbnails.shape == (2, 2, 3, 12, 8)
    assert torch.equal(encoder.seen[1][:, 3:], result.thumbnails[0])
    assert model.average_image.shape == (3, 12, 8)


def test_a_view_outside_the_image_is_refused(tiny_generator):
    with pytest.raises(ValueError, match=r"rows=\(4, 64\).* reaches beyond an image of 32 px"):
        ReStyle(nn.Identity(), tiny_generator, torch.zeros(16), (32, 32), view=View(rows=(4, 64)))
    with pytest.raises(ValueError, match="the columns 9:3 of a view are none"):
        View(columns=(9, 3))
