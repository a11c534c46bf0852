"""Losses and regularisers against their formulas, worked out by hand."""

import math

import pytest
import torch

from generators import Discriminator, DiscriminatorConfig
from generators.training import adversarial

REAL, FAKE = torch.tensor([2.0, -0.5, 0.3]), torch.tensor([-1.5, 0.7])


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_logistic_losses_are_those_of_the_formula():
    expected = -sum(math.log(1 / (1 + math.exp(-s))) for s in FAKE.tolist()) / 2
    assert adversarial.generator_loss(FAKE).item() == pytest.approx(expected)
    expected = -sum(math.log(1 / (1 + math.exp(-s))) for s in REAL.tolist()) / 3
    expected -= sum(math.log(1 - 1 / (1 + math.exp(-s))) for s in FAKE.tolist()) / 2
    assert adversarial.discriminator_loss(REAL, FAKE).item() == pytest.approx(expected)


def test_hinge_losses_are_those_of_the_formula():
    assert adversarial.hinge_generator_loss(FAKE).item() == pytest.approx((1.5 - 0.7) / 2)
    expected = (0 + 1.5 + 0.7) / 3 + (0 + 1.7) / 2
    assert adversarial.hinge_discriminator_loss(REAL, FAKE).item() == pytest.approx(expected)


def test_losses_stay_finite_where_a_sigmoid_would_not():
    far = torch.tensor([500.0])
    assert adversarial.discriminator_loss(-far, far).item() == pytest.approx(1000)
    assert adversarial.generator_loss(far).item() == 0


def test_r1_is_the_squared_gradient_of_a_discriminator_made_by_hand():
    images = normal(4, 3, 2, 2)
    factor = torch.tensor(0.7, requires_grad=True)

    def discriminator(x):  # its gradient at x is 3 * factor * x ** 2
        return factor * x.pow(3).sum(dim=(1, 2, 3))

    penalty = adversarial.r1_penalty(discriminator, images)
    expected = 9 * 0.7**2 * images.pow(4).sum() / 4
    torch.testing.assert_close(penalty.detach(), expected)
    penalty.backward()
    torch.testing.assert_close(factor.grad, 2 * expected / 0.7)
    assert not images.requires_grad


def test_r1_teaches_every_layer_of_the_discriminator():
    """Its second derivatives, by Euler's theorem.

    Without biases scores grow as the weights of one layer do, the penalty with their square: the product of
    weights and gradient is twice the penalty. In a block that holds for the two ways together.
    """
    torch.manual_seed(0)
    network = Discriminator(DiscriminatorConfig(16, (8, 6, 4)))
    penalty = adversarial.r1_penalty(network, normal(8, 3, 16, 16))
    penalty.backward()

    def grown(layer):
        return (layer.weight.detach() * layer.weight.grad).sum().item()

    twice = pytest.approx(2 * penalty.item(), rel=1e-3)
    for layer in (network.from_rgb, network.final_conv, network.hidden, network.score):
        assert grown(layer) == twice
    for block in network.blocks:
        assert grown(block.conv1) + grown(block.skip) == twice
        assert grown(block.conv0) == pytest.approx(grown(block.conv1), rel=1e-3)


def test_path_length_of_a_linear_synthesis_is_that_of_its_jacobian():
    n, n_styles, w_dim = 64, 6, 128  # 768 = 3 * 16 * 16 pixels
    w_plus = normal(n, n_styles, w_dim).requires_grad_()
    scale = torch.tensor(0.8, requires_grad=True)
    image = (scale * w_plus).reshape(n, 3, 16, 16)
    mean = torch.tensor(0.4)
    draw = torch.Generator().manual_seed(1)
    penalty, following = adversarial.path_length(image, w_plus, mean, draw)

    y = normal(n, 3, 16, 16, seed=1) / 16
    lengths = 0.8 * (y.square().sum(dim=(1, 2, 3)) / n_styles).sqrt()
    torch.testing.assert_close(penalty.detach(), (lengths - 0.4).square().mean())
    torch.testing.assert_close(following, 0.4 + 0.01 * (lengths.mean() - 0.4))
    # |y|^2 is 3 for each image in expectation: one for each colour.
    assert lengths.mean().item() == pytest.approx(0.8 * math.sqrt(3 / n_styles), rel=0.01)
    penalty.backward()
    expected = (2 * (lengths - 0.4) * lengths / 0.8).mean()
    torch.testing.assert_close(scale.grad, expected)
    assert not following.requires_grad


@pytest.mark.parametrize("n", [1, 4])
def test_path_length_has_the_same_gradients_on_the_fast_path(n, tiny_generator):
    """Differentiated twice through in-place activations, folded styles and interpolation."""
    tiny_generator.requires_grad_(True)
    with torch.no_grad():
        for conv in tiny_generator.synthesis.convs:
            conv.noise_strength.fill_(0.1)
    found = []
    for reference in (True, False):
        tiny_generator.synthesis.reference = reference
        tiny_generator.zero_grad()
        draw = torch.Generator().manual_seed(0)
        w_plus = adversarial.mixed_styles(tiny_generator, normal(n, 16), normal(n, 16), draw, 0.9)
        image = tiny_generator.synthesis(w_plus)
        penalty, _ = adversarial.path_length(image, w_plus, torch.tensor(0.1), draw)
        penalty.backward()
        found.append(
            {k: p.grad for k, p in tiny_generator.named_parameters() if p.grad is not None}
        )
    assert found[0].keys() == found[1].keys()
    assert "mapping.layers.0.weight" in found[0]
    for name, expected in found[0].items():
        size = expected.abs().max().item()
        torch.testing.assert_close(found[1][name], expected, atol=1e-3 * size + 1e-6, rtol=1e-3)


def test_styles_are_mixed_from_a_random_layer_on(tiny_generator):
    z1, z2 = normal(200, 16), normal(200, 16, seed=1)
    first, second = tiny_generator.mapping(z1), tiny_generator.mapping(z2)

    def n_of_second(probability):
        draw = torch.Generator().manual_seed(2)
        w_plus = adversarial.mixed_styles(tiny_generator, z1, z2, draw, probability)
        of_first = (w_plus == first[:, None]).all(dim=2)
        assert torch.equal(of_first, ~(w_plus == second[:, None]).all(dim=2))
        assert torch.equal(of_first, of_first.cummin(dim=1).values), "never back to the first"
        return (~of_first).sum(dim=1)

    assert n_of_second(0.0).eq(0).all()
    assert set(n_of_second(1.0).tolist()) == set(range(1, tiny_generator.n_styles))
    assert 140 < n_of_second(0.8).gt(0).sum() < 180
