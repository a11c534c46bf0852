"""Pivotal tuning: closer to one picture, elsewhere as before, the generator itself untouched."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from encoders import ReStyle
from encoders.metrics import distances
from encoders.pivotal import TuningConfig, tune
from generators.files.checkpoint import tensors_sha256

CONFIG = TuningConfig(n_steps=30, rank=4)


@pytest.fixture
def model(tiny_generator):
    return ReStyle(nn.Conv2d(6, 1, 1), tiny_generator, torch.zeros(16), (16, 16))


@pytest.fixture
def pivot(model):
    return torch.randn(model.latent_avg.shape, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def picture(shapes_batch):
    return shapes_batch(1, 3)[0]


def error(model, delta, pivot, picture):
    drawn = delta.draw(model.generator.synthesis, pivot[None])
    return distances.mse(drawn, picture[None]).item()


def test_the_error_falls_and_the_generator_stays(model, pivot, picture):
    model.at("bf16")
    before = tensors_sha256(model.generator.state_dict())
    tuned = tune(model, pivot, picture, CONFIG)
    assert model.generator.synthesis.compute_dtype == torch.bfloat16
    model.at("fp32")
    assert tensors_sha256(model.generator.state_dict()) == before
    drawn = model.generator.synthesis(pivot[None])
    assert tuned.before == pytest.approx(distances.mse(drawn, picture[None]).item())
    assert tuned.after < 0.5 * tuned.before
    assert tuned.after == pytest.approx(error(model, tuned.delta, pivot, picture))


def test_the_same_arguments_give_the_same_delta(model, pivot, picture):
    config = TuningConfig(n_steps=2)
    first, again, other = (tune(model, pivot, picture, config, seed).delta for seed in (1, 1, 2))
    assert tensors_sha256(first.tensors) == tensors_sha256(again.tensors)
    assert tensors_sha256(first.tensors) != tensors_sha256(other.tensors)
    with torch.inference_mode():
        inside = tune(model, pivot.clone(), picture.clone(), config, 1).delta
    assert tensors_sha256(inside.tensors) == tensors_sha256(first.tensors)


def test_near_the_pivot_it_is_held_to_what_it_drew(model, pivot, picture):
    synthesis = model.generator.synthesis
    source = torch.Generator().manual_seed(9)
    z = torch.randn(32, 16, generator=source)
    elsewhere = model.generator.mapping(z)[:, None].expand(-1, *model.latent_avg.shape)
    changes = []
    for locality in (0.0, 1.0):
        config = TuningConfig(n_steps=30, rank=4, locality=locality)
        tuned = tune(model, pivot, picture, config).delta
        changes.append(distances.mse(tuned.draw(synthesis, elsewhere), synthesis(elsewhere)).mean())
    assert changes[1] < 0.7 * changes[0]


def test_a_picture_at_the_encoders_size_is_compared_there(model, pivot, picture):
    small = model.to_input(picture[None])[0]
    tuned = tune(model, pivot, small, CONFIG)
    assert tuned.after < 0.5 * tuned.before
    drawn = model.to_input(tuned.delta.draw(model.generator.synthesis, pivot[None]))
    assert tuned.after == pytest.approx(distances.mse(drawn, small[None]).item())


def test_other_distances_can_be_made_small_beside_the_squared_error(model, pivot, picture):
    def darkness(seen, aim):
        return seen.mean(dim=(1, 2, 3))

    plain, dark = (
        tune(model, pivot, picture, CONFIG, added=added) for added in ((), [(5.0, darkness)])
    )
    drawn = [
        each.delta.draw(model.generator.synthesis, pivot[None]).mean() for each in (plain, dark)
    ]
    assert drawn[1] < drawn[0] - 0.1


def test_a_rate_that_is_too_high_is_lowered(model, pivot, picture):
    wild = TuningConfig(n_steps=10, rank=4, lr=1.0)
    tuned = tune(model, pivot, picture, wild)
    assert tuned.after < tuned.before
    calm = tune(model, pivot, picture, replace(wild, lr=0.2))
    assert tensors_sha256(tuned.delta.tensors) == tensors_sha256(calm.delta.tensors)


def test_what_does_not_get_closer_changes_nothing(model, pivot, picture):
    tuned = tune(model, pivot, torch.full_like(picture, torch.nan), TuningConfig(n_steps=2))
    assert not any(t.any() for t in tuned.delta.tensors.values())
    drawn = model.generator.synthesis(pivot[None])[0]
    perfect = tune(model, pivot, drawn, TuningConfig(n_steps=2))
    assert perfect.before == perfect.after


def test_what_cannot_be_is_refused(model, pivot, picture):
    with pytest.raises(ValueError, match=r"the latent must be \[8, 16\]"):
        tune(model, pivot[:2], picture)
    with pytest.raises(ValueError, match=r"the picture must be \[3, 32, 32\] or \[3, 16, 16\]"):
        tune(model, pivot, picture[:, :8])
    for wrong in ({"n_steps": 0}, {"rank": 0}, {"lr": -1.0}, {"locality": float("nan")}):
        with pytest.raises(ValueError, match="must be"):
            TuningConfig(**wrong)
