"""What the discriminator is shown of few images, and how the probability of changes follows it."""

from dataclasses import replace

import pytest
import torch
from test_training import TINY, discs, require_equal, tensors

from generators.training.augmentation import MOST, Augmentation, augmented, recoloured, warped
from generators.training.trainer import GeneratorTrainer

FEW = replace(TINY, augment=True, augment_ramp=100, learning_rate=0.0, path_length_weight=0.0)


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("linear", "expected"),
    [
        ([[1, 0], [0, 1]], lambda x: x),
        ([[-1, 0], [0, 1]], lambda x: x.flip(3)),
        ([[0, -1], [1, 0]], lambda x: torch.rot90(x, 1, (2, 3))),
    ],
)
def test_pixels_come_from_where_a_matrix_says(linear, expected):
    images = torch.randn(2, 3, 8, 8, generator=draw())
    places = torch.tensor([[*linear[0], 0], [*linear[1], 0]]).float().expand(2, 2, 3)
    torch.testing.assert_close(warped(images, places), expected(images), atol=1e-5, rtol=0)


def test_each_image_is_changed_with_that_probability_and_in_its_own_way():
    images = discs(1, 0).expand(400, -1, -1, -1)
    same = [
        ((augmented(images, p, draw()) - images).abs().amax(dim=(1, 2, 3)) < 1e-4).float().mean()
        for p in (0.0, 0.1, 0.8)
    ]
    assert same[0] == 1
    assert 0.2 < same[1] < 0.6  # 0.9 ** 12, and changes that change nothing
    assert same[2] < 0.02
    changed = augmented(images[:2], MOST, draw(1))
    assert not torch.allclose(changed[0], changed[1], atol=0.05)


def test_grey_stays_without_colour_and_colours_keep_what_they_are_of():
    grey = torch.rand(64, 1, 16, 16, generator=draw()).expand(-1, 3, -1, -1) * 2 - 1
    changed = augmented(grey, 0.8, draw())
    torch.testing.assert_close(changed[:, 0], changed[:, 2], atol=1e-5, rtol=0)
    assert changed.isfinite().all()
    torch.testing.assert_close(recoloured(grey, torch.eye(3, 4).expand(64, 3, 4)), grey)


def test_gradients_reach_the_generator_s_images():
    images = discs(8, 0).requires_grad_()
    augmented(images, 0.8, draw()).square().sum().backward()
    assert (images.grad.abs().amax(dim=(1, 2, 3)) > 0).all()


def test_the_probability_follows_the_discriminator():
    sure, unsure = Augmentation(0.6, 100), Augmentation(0.6, 100)
    for _ in range(3):
        sure.follow(1.0, 5)
    assert sure.p == 0  # four batches are one look
    sure.follow(0.9, 5)
    assert sure.p == pytest.approx(0.2)
    for _ in range(40):
        sure.follow(1.0, 5)
        unsure.follow(0.0, 5)
    assert (sure.p, unsure.p) == (MOST, 0)
    for _ in range(4):
        sure.follow(0.0, 5)
    assert sure.p == pytest.approx(MOST - 0.2)


def test_it_rises_where_a_discriminator_learns_a_small_set_by_heart():
    """Of eight images, beside a generator that stands still."""
    trainer = GeneratorTrainer(FEW, "cpu")
    terms = [trainer.step(discs(8, 0)) for _ in range(12)]
    assert terms[0]["augment_p"] == 0
    assert terms[-1]["augment_p"] > 0.3
    plain = GeneratorTrainer(replace(FEW, augment=False), "cpu")
    assert not {"augment_p", "real_sign"} & plain.step(discs(8, 0)).keys()


def test_augmented_steps_go_on_to_the_bit():
    config = replace(FEW, accumulate=2, learning_rate=2e-3, path_length_weight=2.0)
    whole = GeneratorTrainer(config, "cpu")
    whole.augmentation.p = 0.5
    for _ in range(3):
        whole.step(discs(8, 0))
    halfway = tensors(whole)
    expected = [whole.step(discs(8, n)) for n in range(3, 5)]
    continued = GeneratorTrainer(config, "cpu")
    continued.load_state_dict(halfway)
    assert [continued.step(discs(8, n)) for n in range(3, 5)] == expected
    assert expected[-1]["augment_p"] not in (0.0, 0.5)  # the fourth batch moved it
    require_equal(tensors(continued), tensors(whole))


def test_settings_name_it_only_where_it_is_used():
    assert not any(name.startswith("augment") for name in TINY.settings())
    assert FEW.settings()["augment_ramp"] == 100
    for wrong in ({"augment_target": 1.0}, {"augment_ramp": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            replace(FEW, **wrong)
