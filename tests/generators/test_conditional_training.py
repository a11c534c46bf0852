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


def equal(first, second):
    """Whether two states are the same to the bit."""
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[k], second[k]) for k in first)
    return torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second


@pytest.mark.slow
def test_it_draws_the_class_that_is_asked_for():
    trainer = GeneratorTrainer(TINY, "cpu")
    steps(trainer, 0, 80)
    images, labels = discs(32, seed=10_000)
    found = trainer.validate(images, labels=labels)
    assert found.grid.shape == (3, 8, 3, 16, 16)  # real ones, then a row of each class
    assert torch.equal(found.grid[0], images[:8])
    # Of four seeds the least difference was 0.26; real discs differ by 0.74.
    assert redness(found.grid[2]) - redness(found.grid[1]) > 0.2
    assert found.score < trainer.validate(images, labels=labels.flip(1)).score


def test_three_steps_and_three_more_are_six_to_the_bit_with_every_regulariser():
    config = replace(TINY, augment=True, augment_ramp=100, r1_interval=2, path_length_interval=2)
    whole = GeneratorTrainer(config, "cpu")
    first = steps(whole, 0, 3)
    assert {"r1", "path_length", "augment_p"} <= first[0].keys()
    buffer = io.BytesIO()
    torch.save(whole.state_dict(), buffer)
    buffer.seek(0)
    continued = GeneratorTrainer(config, "cpu")
    continued.load_state_dict(torch.load(buffer, weights_only=True))
    assert steps(continued, 3, 6) == steps(whole, 3, 6)
    assert equal(continued.state_dict(), whole.state_dict())


def test_parts_of_a_batch_keep_their_labels():
    config = replace(TINY, learning_rate=0.0, discriminator_learning_rate=0.0, mixing=0.0)
    images, labels = discs(16, 0)
    z = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))
    terms = [
        GeneratorTrainer(replace(config, accumulate=n), "cpu").step(images, z, labels)
        for n in (1, 2)
    ]
    for name in ("real_score", "fake_score", "r1"):
        assert terms[0][name] == pytest.approx(terms[1][name], rel=1e-3), name


def test_saved_networks_know_their_classes_and_are_gone_on_from(tmp_path):
    trainer = GeneratorTrainer(TINY, "cpu")
    steps(trainer, 0, 1)
    trainer.save(tmp_path / "last.safetensors", "of a test")
    beside = tmp_path / "last.discriminator.safetensors"
    assert checkpoint.read_header(beside).format_version == 3
    assert describe(tmp_path / "last.safetensors")["classes"] == "blue, red"
    generator, discriminator = (
        load_generator(tmp_path / "last.safetensors"),
        load_discriminator(beside),
    )
    assert generator.class_names == ("blue", "red")
    labels = generator.labels_of(["red", 0])
    assert labels.tolist() == [[0, 1], [1, 0]]
    z, (images, _) = torch.randn(2, 8), discs(2, 0)
    assert torch.equal(generator(z, labels=labels), trainer.ema(z, labels=labels))
    scores = discriminator(images, labels)
    assert torch.equal(scores, trainer.discriminator(images, labels))
    assert not torch.equal(scores, discriminator(images, labels.flip(1)))
    red, of_all = generator.estimate_latent_avg(of_class="red"), generator.latent_avg
    both = (red + generator.estimate_latent_avg(of_class=0)) / 2
    assert not torch.allclose(red, of_all, atol=1e-3)
    torch.testing.assert_close(both, of_all, atol=0.05, rtol=0)

    files = {"start_from": str(tmp_path / "last.safetensors"), "discriminator_from": str(beside)}
    again = GeneratorTrainer(replace(TINY, **files), "cpu")
    assert torch.equal(again.generator(z, labels=labels), generator(z, labels=labels))
    for names, says in (
        ((), "for 2 classes and the training for none; pass --classes"),
        (("a", "b", "c"), "for 2 classes and the training for 3; start from a file of the same"),
        (("red", "blue"), "has the classes blue, red and the training red, blue; .* --class-names"),
    ):
        with pytest.raises(ValueError, match=says):
            replace(TINY, class_names=names, **files).networks()


def test_classes_and_labels_that_cannot_be_are_refused_in_a_sentence():
    generator, discriminator = TINY.networks()
    with pytest.raises(ValueError, match="no class 'green'; its classes are blue, red"):
        generator.labels_of(["green"])
    with pytest.raises(ValueError, match="no class 2;"):
        generator.labels_of([2])
    with pytest.raises(ValueError, match=r"discriminator is conditional: pass labels \[4, 2\]"):
        discriminator(discs(4, 0)[0])
    without = replace(TINY, class_names=())
    assert "class_names" not in without.settings()
    generator, discriminator = without.networks()
    with pytest.raises(ValueError, match="takes no labels"):
        discriminator(*discs(4, 0))
    with pytest.raises(ValueError, match="takes no labels"):
        generator.labels_of([0])
    for names in (("a", "a"), ("a", 1)):
        with pytest.raises(ValueError, match="class_names"):
            replace(generator.config, c_dim=2, class_names=names)
