"""StyleGAN2's training by class at 16 px: it learns which class is which, resumes, and is saved whole."""

import io
from dataclasses import replace

import pytest
import torch

from generators import CheckpointError, load_discriminator, load_generator
from generators.files import checkpoint
from generators.training.trainer import GeneratorTrainConfig, GeneratorTrainer

COLOURS = torch.tensor([[0.8, -0.6, -0.6], [-0.6, -0.2, 0.9]])
TINY = GeneratorTrainConfig(
    resolution=16,
    channels=(24, 24, 16),
    z_dim=8,
    w_dim=8,
    n_mapping_layers=2,
    class_names=("blue", "red"),
    batch_size=16,
    r1_gamma=0.1,
    learning_rate=5e-3,
    discriminator_learning_rate=4e-3,
    ema_half_life=500,
)


def discs(n, seed):
    """Discs [n, 3, 16, 16] somewhere on a dark ground, red or blue, and their classes [n, 2]."""
    draw = torch.Generator().manual_seed(seed)
    x, y = torch.rand(2, n, 1, 1, generator=draw) * 0.6 - 0.3
    axis = (torch.arange(16) + 0.5) / 8 - 1
    distance = ((axis - x).square() + (axis[:, None] - y).square()).sqrt()
    inside = torch.sigmoid(12 * (0.55 - distance))[:, None]
    is_red = torch.rand(n, generator=draw) < 0.5
    colour = COLOURS[(~is_red).long()][:, :, None, None]
    return inside * colour - (1 - inside) * 0.8, torch.eye(2)[is_red.long()]


def step(trainer, seed):
    images, labels = discs(trainer.config.batch_size, seed)
    return trainer.step(images, labels=labels)


def redness(images):
    """How much more red than blue each is, [N]."""
    return (images[:, 0] - images[:, 2]).mean(dim=(1, 2))


@pytest.mark.slow
def test_it_draws_the_class_that_is_asked_for():
    trainer = GeneratorTrainer(TINY, "cpu")
    z = torch.randn(32, 8, generator=torch.Generator().manual_seed(1))
    for n in range(120):
        step(trainer, n)
    drawn = {name: trainer.ema(z, labels=trainer.ema.labels_of([name] * 32)) for name in TINY.class_names}
    print(redness(drawn["red"]), redness(drawn["blue"]))
    assert (redness(drawn["red"]) > 0).float().mean() > 0.9
    assert (redness(drawn["blue"]) < 0).float().mean() > 0.9
