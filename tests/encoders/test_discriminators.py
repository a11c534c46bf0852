"""Discriminators beside the encoder: their updates, the pool, and that the latent one learns."""

import pytest
import torch

from encoders.training.discriminators import (
    POOL_SIZE,
    Discriminators,
    ImageDiscriminatorTrainer,
    LatentDiscriminatorTrainer,
    Pool,
)
from encoders.training.losses import LossConfig
from generators import CheckpointError
from generators.discriminator import Discriminator, DiscriminatorConfig
from generators.training.protocol import NotFinite


@pytest.fixture
def latent_discriminator():
    torch.manual_seed(0)
    return LatentDiscriminatorTrainer(8, 1e-3, torch.device("cpu"))


@pytest.fixture
def image_discriminator():
    torch.manual_seed(0)
    return ImageDiscriminatorTrainer(Discriminator(DiscriminatorConfig(16, (8, 6, 4))), 1e-3)


def weights_of(discriminator):
    return [p.clone() for p in discriminator.discriminator.parameters()]


def test_the_latent_discriminator_learns_to_tell_latents_from_mapped_ones(latent_discriminator):
    draw = torch.Generator().manual_seed(1)

    def sample(n):
        real, fake = torch.randn(n, 8, generator=draw), torch.randn(n, 3, 8, generator=draw)
        return real + 0.7, fake - 0.7

    losses = [
        latent_discriminator.update(*sample(8), draw)["latent_discriminator"] for _ in range(150)
    ]
    assert sum(losses[-20:]) < 0.9 * sum(losses[:20])
    real, fake = sample(200)
    scores = (
        latent_discriminator.discriminator(real),
        latent_discriminator.discriminator(fake[:, 0]),
    )
    right = (scores[0] > 0).float().mean() / 2 + (scores[1] < 0).float().mean() / 2
    assert right > 0.9
    assert latent_discriminator.judge(fake) > 1.3 * latent_discriminator.judge(real[:, None])


def test_r1_is_due_at_every_sixteenth_update(latent_discriminator):
    draw = torch.Generator().manual_seed(0)
    w, latents = torch.randn(4, 8, generator=draw), torch.randn(4, 2, 8, generator=draw)
    due = [i for i in range(35) if "latent_r1" in latent_discriminator.update(w, latents, draw)]
    assert due == [0, 16, 32]


def test_a_pool_gives_back_what_it_was_given():
    pool, draw = Pool(2, torch.device("cpu")), torch.Generator().manual_seed(0)
    numbers = torch.arange(400.0)[:, None].expand(-1, 2)
    first = pool.exchange(numbers[:POOL_SIZE], draw)
    assert torch.equal(first, numbers[:POOL_SIZE]), "not full yet"
    rest = pool.exchange(numbers[POOL_SIZE:], draw)
    is_new = rest[:, 0] == numbers[POOL_SIZE:, 0]
    assert 0.4 < is_new.float().mean() < 0.6
    # Nothing is lost and nothing doubled: what came out and what is kept are all that went in.
    together = torch.cat([first, rest, pool.vectors])[:, 0]
    kept_once = together.sort().values.unique_consecutive(return_counts=True)
    assert kept_once[0].tolist() == numbers[:, 0].tolist()
    assert len(rest) == 350


def test_the_image_discriminators_update_is_the_hinge_losss(image_discriminator):
    draw = torch.Generator().manual_seed(0)
    real, fake = (torch.randn(4, 3, 32, 32, generator=draw) + mean for mean in (1, -1))
    half = torch.nn.functional.avg_pool2d
    before = weights_of(image_discriminator)
    scores = [image_discriminator.discriminator(x) for x in (half(real, 2), half(fake, 2))]
    smooth = image_discriminator.update(half(real, 2), half(fake, 2))["discriminator"]
    expected = (1 - scores[0]).clamp_min(0).mean() + (1 + scores[1]).clamp_min(0).mean()
    assert smooth == pytest.approx(expected.item(), rel=1e-5)
    assert any(
        not torch.equal(a, b) for a, b in zip(before, weights_of(image_discriminator), strict=True)
    )
    for _ in range(30):
        last = image_discriminator.update(real, fake)["discriminator"]
    assert last < 0.5 * image_discriminator.update(fake, real)["discriminator"], (
        "what is real is what counts"
    )


def test_judging_gives_gradients_to_images_alone(image_discriminator, latent_discriminator):
    images = torch.randn(2, 3, 16, 16, requires_grad=True)
    latents = torch.randn(2, 3, 8, requires_grad=True)
    (image_discriminator.judge(images) + latent_discriminator.judge(latents)).backward()
    assert images.grad.abs().sum() > 0
    assert latents.grad.abs().sum() > 0
    for discriminator in (image_discriminator, latent_discriminator):
        assert all(p.grad is None for p in discriminator.discriminator.parameters())


def test_what_is_no_number_changes_no_weight(image_discriminator, latent_discriminator):
    images, w = torch.zeros(2, 3, 16, 16), torch.zeros(2, 8)
    bad = torch.full((2, 3, 16, 16), torch.nan)
    before = weights_of(image_discriminator), weights_of(latent_discriminator)
    with pytest.raises(NotFinite, match="discriminator is nan"):
        image_discriminator.update(images, bad)
    with pytest.raises(NotFinite, match="latent_discriminator is nan"):
        latent_discriminator.update(w, torch.full((2, 3, 8), torch.nan), torch.Generator())
    after = weights_of(image_discriminator), weights_of(latent_discriminator)
    for then, now in zip(before, after, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(then, now, strict=True))


def test_an_image_discriminator_needs_a_file(tiny_generator):
    with pytest.raises(CheckpointError, match="--discriminator: the discriminator of a StyleGAN2"):
        Discriminators(LossConfig(adversarial=0.2), 1e-4, tiny_generator)
