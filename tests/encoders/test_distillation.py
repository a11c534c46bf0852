"""Distillation: both ways to an image are learned, and the discriminator comes when it is due."""

from dataclasses import replace

import pytest
import tiny_trainings
import torch

from encoders import load_inverter
from encoders.training.distillation import DistillationTrainer
from generators import load_discriminator, load_generator
from generators.training.protocol import NotFinite
from pipeline import portraits

CONFIG = tiny_trainings.distillation(
    width=16,
    batch_size=8,
    n_direct=4,
    n_batches=150,
    warm_up=10,
    adversarial=0.0,
    ema_half_life=100.0,
    generator_learning_rate=5e-3,
    encoder_learning_rate=3e-3,
    precision="fp32",
)


@pytest.fixture(scope="module")
def batches():
    z = portraits.sample(256, 3)
    images = portraits.render(z, 16, "aligned")
    return list(zip(images.split(8), z.split(8), strict=True))


@pytest.mark.slow
def test_it_learns_from_z_and_from_images(batches):
    trainer = DistillationTrainer(CONFIG)
    held_out = batches[-1]
    before = trainer.validate(*held_out)
    for i in range(CONFIG.n_batches):
        trainer.step(*batches[i % 31])
    after = trainer.validate(*held_out)
    by_step, direct = after.distances["mse"][:-1], after.distances["mse"][-1]
    assert by_step[-1] < 0.3 * before.distances["mse"][-2]
    assert direct < 0.5 * before.distances["mse"][-1]
    assert by_step[1] < by_step[0]
    assert after.grid.shape == (5, 8, 3, 16, 16)


def test_the_discriminator_comes_when_it_is_due(batches):
    trainer = DistillationTrainer(replace(CONFIG, adversarial=0.1, discriminator_start=2))
    discriminator = [p.clone() for p in trainer.discriminator.parameters()]
    terms = [trainer.step(*batches[i]) for i in range(2)]
    assert all(
        torch.equal(a, b)
        for a, b in zip(discriminator, trainer.discriminator.parameters(), strict=True)
    )
    terms.append(trainer.step(*batches[2]))
    assert [("opinion" in t, "discriminator" in t) for t in terms] == [(False,) * 2] * 2 + [
        (True,) * 2
    ]
    assert not any(
        torch.equal(a, b)
        for a, b in zip(
            discriminator[:2], list(trainer.discriminator.parameters())[:2], strict=True
        )
    )


def test_no_number_changes_no_weight(batches):
    trainer = DistillationTrainer(CONFIG)
    images, z = batches[0]
    images = images.clone()
    images[5, 0, 3, 3] = torch.inf
    before = {name: t.clone() for name, t in trainer.model.state_dict().items()}
    with pytest.raises(NotFinite, match="step1"):
        trainer.step(images, z)
    after = trainer.model.state_dict()
    assert all(torch.equal(after[name], t) for name, t in before.items())


def test_numbers_are_fetched_once_a_batch(batches, fetches):
    trainer = DistillationTrainer(replace(CONFIG, adversarial=0.1))
    trainer.step(*batches[0])
    with fetches() as found:
        trainer.step(*batches[1])
    assert found == ["tolist"]


def test_what_the_discriminator_spoils_comes_after_the_encoders_updates(batches):
    config = replace(CONFIG, adversarial=0.1)
    trainer, other = DistillationTrainer(config), DistillationTrainer(config)
    next(trainer.discriminator.parameters()).register_hook(lambda g: g * torch.nan)
    discriminator = {name: t.clone() for name, t in trainer.discriminator.state_dict().items()}
    other.step(*batches[0])
    with pytest.raises(NotFinite, match="the gradients of the Discriminator is nan"):
        trainer.step(*batches[0])
    for name in ("model", "average", "optimizer"):
        mine, theirs = (getattr(each, name).state_dict() for each in (trainer, other))
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)
    torch.testing.assert_close(
        dict(trainer.discriminator.state_dict()), discriminator, rtol=0, atol=0
    )


def test_what_it_saves_fits_together(batches, tmp_path):
    trainer = DistillationTrainer(replace(CONFIG, adversarial=0.1))
    trainer.step(*batches[0])
    trainer.save(tmp_path / "a.safetensors", "notes")
    model = load_inverter(tmp_path / "a.safetensors")
    generator = load_generator(tmp_path / "a.generator.safetensors")
    z = portraits.sample(2, 1)
    with torch.no_grad():
        assert torch.equal(model.generator(z), generator(z))
        # Without noise the stored buffers change nothing.
        assert torch.equal(generator(z), generator(z, noise="none"))
    average = generator.mapping(portraits.sample(4000, 5)).mean(dim=0)
    assert torch.allclose(generator.latent_avg, average, atol=0.1)
    assert torch.equal(model.latent_avg, generator.latent_avg.expand_as(model.latent_avg))
    assert load_discriminator(tmp_path / "a.discriminator.safetensors").config.resolution == 16


def test_it_begins_with_a_file(batches, tmp_path):
    first = DistillationTrainer(CONFIG)
    first.step(*batches[0])
    first.save(tmp_path / "a.safetensors", "notes")
    second = DistillationTrainer(replace(CONFIG, start_from=str(tmp_path / "a.safetensors")))
    for name, tensor in first.ema.state_dict().items():
        assert torch.equal(second.model.state_dict()[name], tensor), name
    second.step(*batches[1])
