"""An encoder for a generator that draws by class: it needs none, and statistics of W are over all."""

from dataclasses import replace

import pytest
import tiny_trainings
import torch

from encoders import load_inverter
from encoders.bound import of_generator
from encoders.optimization import spread
from encoders.pivotal import TuningConfig, tune
from encoders.refinement import curvature
from encoders.training.trainer import EncoderTrainer
from generators import CheckpointError, Generator, save_discriminator, save_generator
from generators.discriminator import Discriminator, DiscriminatorConfig
from generators.files import checkpoint


@pytest.fixture
def generator(tiny_generator):
    torch.manual_seed(0)
    made = Generator(replace(tiny_generator.config, c_dim=3, class_names=("a", "b", "c")))
    made.latent_avg.copy_(made.estimate_latent_avg(100))
    return made


def test_it_is_trained_saved_and_inverts(generator, shapes_batch, tmp_path):
    config = tiny_trainings.encoder(init="random", latent_adversarial=0.1, bound=4.0)
    trainer = EncoderTrainer(config, generator)
    assert {"l2", "latent_adversarial"} <= trainer.step(shapes_batch(4)).keys()
    trainer.save(tmp_path / "e.safetensors", "of a test")
    save_generator(tmp_path / "g.safetensors", generator)
    assert checkpoint.read_header(tmp_path / "e.safetensors").format_version == 3
    model = load_inverter(tmp_path / "e.safetensors")
    assert model.generator.class_names == ("a", "b", "c")
    other = load_inverter(tmp_path / "e.safetensors", generator=tmp_path / "g.safetensors")
    found = [each.invert(shapes_batch(2), 2).latents for each in (model, other)]
    assert torch.equal(*found)
    # What is measured of W: the same at every call.
    assert spread(model) == spread(model) > 0
    assert torch.equal(curvature.gradients(model, 4), curvature.gradients(model, 4))
    picture = shapes_batch(1)[0]
    assert tune(model, found[0][-1, 0], picture, TuningConfig(n_steps=2)).before > 0


def test_a_bound_is_around_the_mean_of_all_classes(generator):
    bound = of_generator(generator, 4.0)
    assert torch.equal(bound.mean, of_generator(generator, 4.0).mean)
    expected = generator.estimate_latent_avg(20_000).double()
    torch.testing.assert_close(bound.mean.double(), expected, atol=0.05, rtol=0)


def test_what_needs_a_class_is_refused(generator, tmp_path):
    with pytest.raises(ValueError, match="leave out --pull for a generator that draws by class"):
        EncoderTrainer(tiny_trainings.encoder(pull=1.0), generator)
    path = tmp_path / "d.safetensors"
    save_discriminator(path, Discriminator(DiscriminatorConfig(32, (8, 8, 8, 8), c_dim=3)))
    config = tiny_trainings.encoder(adversarial=0.1, discriminator=str(path))
    with pytest.raises(CheckpointError, match="judges images by class"):
        EncoderTrainer(config, generator)
