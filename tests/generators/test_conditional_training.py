"""StyleGAN2's training by class at 16 px: it learns which class is which, resumes, and is saved whole."""

import io
from dataclasses import replace

import pytest
import torch

from encoders.inspection import describe
from generators import load_discriminator, load_generator
from generators.files import checkpoint
from generators.training.trainer import GeneratorTrainConfig, GeneratorTrainer

COLOURS = torch.tensor([[-0.6, -0.2, 0.9], [0.8, -0.6, -0.6]])
TINY = GeneratorTrainConfig(
    resolution=16,
    channels=(16, 16, 12),
    z_dim=8,
    w_dim=8,
    n_mapping_layers=2,
    class_names=("blue", "red"),
    batch_size=16,
    r1_gamma=0.1,
    learning_rate=5e-3,
    discriminator_learning_rate=4e-3,
    ema_half_life=300,
)


def discs(n, seed):
    """Discs [n, 3, 16, 16] somewhere on a dark ground, blue or red, and their labels [n, 2]."""
    draw = torch.Generator().manual_seed(seed)
    x, y = torch.rand(2, n, 1, 1, generator=draw) * 0.6 - 0.3
    axis = (torch.arange(16) + 0.5) / 8 - 1
    distance = ((axis - x).square() + (axis[:, None] - y).square()).sqrt()
    inside = torch.sigmoid(12 * (0.55 - distance))[:, None]
    of = torch.randint(2, (n,), generator=draw)
    return inside * COLOURS[of][:, :, None, None] - (1 - inside) * 0.8, torch.eye(2)[of]


def steps(trainer, first, last):
    found = []
    for n in range(first, last):
        images, labels = discs(trainer.config.batch_size, n)
        found.append(trainer.step(images, labels=labels))
    return found


def redness(images):
    """How much more red than blue they are."""
    return (images[:, 0] - images[:, 2]).mean().item()


@pytest.mark.slow
@pytest.mark.parametrize("augment", [False])
def test_it_draws_the_class_that_is_asked_for(augment):
    trainer = GeneratorTrainer(TINY, "cpu")
    steps(trainer, 0, 80)
    images, labels = discs(32, seed=10_000)
    found = trainer.validate(images, labels=labels)
    assert found.grid.shape == (3, 8, 3, 16, 16)
    assert torch.equal(found.grid[0], images[:8])
    print(
        *(redness(row) for row in found.grid[1:]),
        redness(images[labels[:, 0] == 1]),
        redness(images[labels[:, 1] == 1]),
        found.score,
        trainer.validate(images, labels=labels.flip(1)).score,
    )
