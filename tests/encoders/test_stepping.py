"""As many steps as each image needs: the results of the plain loop, in order, whoever the neighbours are."""

import pytest
import torch
from torch import nn

from encoders import ReStyle
from encoders.execution import Execution, Plan
from encoders.loop import Step
from encoders.metrics import distances
from encoders.restyle import SinglePass
from encoders.stepping import Start, Stepper
from generators import Generator, GeneratorConfig

GAIN = 0.002  # of which these images need 2 to 6 steps


class Encoder(nn.Module):
    """Goes a part of the way to an average colour, so that some images settle sooner than others."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(6, 32, 8).requires_grad_(False)
        self.conv.weight.mul_(0.5)

    def forward(self, x):
        return 0.2 * self.conv(x).flatten(1).unflatten(1, (4, 8))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(31)
    generator = Generator(GeneratorConfig(8, (4, 4), z_dim=8, w_dim=8)).requires_grad_(False)
    return ReStyle(Encoder().requires_grad_(False), generator, torch.zeros(8), (8, 8))


@pytest.fixture(scope="module")
def images():
    return torch.rand(11, 3, 8, 8, generator=torch.Generator().manual_seed(7)) * 2 - 1


def batches(images, *sizes, latents=None):
    parts = zip(
        images.split(sizes),
        [None] * len(sizes) if latents is None else latents.split(sizes),
        strict=True,
    )
    return [Start(*part) for part in parts]


def expected_steps(model, images, most, gain):
    """By the errors of the plain loop."""
    found = model.invert(images, most)
    errors = torch.stack([distances.mse(t.clamp(-1, 1), found.target) for t in found.thumbnails])
    before = torch.cat([torch.full_like(errors[:1], torch.inf), errors[:-1]])
    stops = ~(errors < (1 - gain) * before)
    stops[-1] = True
    return found, stops.int().argmax(dim=0) + 1


@pytest.mark.parametrize("n_places", [1, 3, 4, 16])
def test_each_image_takes_its_steps_and_no_more(model, images, n_places):
    plain, n_steps = expected_steps(model, images, 6, GAIN)
    assert len(set(n_steps.tolist())) > 2, "they differ"
    results = list(Stepper(model, n_places, 6, GAIN)(batches(images, 4, 1, 3, 3)))
    assert [len(each.target) for each in results] == [4, 1, 3, 3]
    taken = torch.cat([each.n_taken for each in results])
    assert torch.equal(taken, n_steps)
    first = 0
    for result in results:
        assert len(result.latents) == result.n_taken.max()
        for i, n in enumerate(result.n_taken.tolist(), start=first):
            of = result.latents[:, i - first], result.thumbnails[:, i - first]
            kept = plain.latents[:n, i], plain.thumbnails[:n, i]
            for one, other in zip(of, kept, strict=True):
                torch.testing.assert_close(one[:n], other, atol=1e-5, rtol=0)
                assert (one[n:] == one[n - 1]).all()
            torch.testing.assert_close(
                result.images[i - first], model.draw(kept[0][-1:])[0], atol=1e-5, rtol=0
            )
        first += len(result.target)


def test_without_a_gain_all_take_all(model, images):
    [result] = Stepper(model, 3, 4)(batches(images, 11))
    assert result.n_taken.tolist() == [4] * 11
    torch.testing.assert_close(result.latents, model.invert(images, 4).latents, atol=1e-5, rtol=0)


def test_where_each_begins_may_be_told(model, images):
    begin = torch.randn(11, 4, 8, generator=torch.Generator().manual_seed(2))
    found = torch.cat(
        [each.latents for each in Stepper(model, 4, 1)(batches(images, 6, 5, latents=begin))], dim=1
    )
    with torch.no_grad():
        seen = model.to_input(model.draw(begin))
        torch.testing.assert_close(found[0], model.step(images, seen, begin), atol=1e-5, rtol=0)


def test_nan_is_done_at_once_and_touches_nobody(model, images):
    spoilt = images.clone()
    spoilt[2] = torch.nan
    [result] = Stepper(model, 4, 5, GAIN)(batches(spoilt, 11))
    [clean] = Stepper(model, 4, 5, GAIN)(batches(images, 11))
    others = [i for i in range(11) if i != 2]
    assert result.n_taken[2] == 1
    assert torch.equal(result.n_taken[others], clean.n_taken[others])
    assert result.images[others].isfinite().all()


def test_places_are_filled_as_they_are_left(model, images):
    """No more steps than the images need, but for those at the end, when none are left to come."""
    n_calls = 0

    class Counting(Execution):
        def step(self, *given):
            nonlocal n_calls
            n_calls += 1
            return super().step(*given)

    execution, model.execution = model.execution, Counting()
    _, n_steps = expected_steps(model, images, 6, GAIN)
    list(Stepper(model, 2, 6, GAIN)(batches(images, 4, 4, 3)))
    model.execution = execution
    assert n_calls <= -(-int(n_steps.sum()) // 2) + 6


def test_batches_are_asked_for_when_there_is_room(model, images):
    asked = []

    def source():
        for i, start in enumerate(batches(images, 4, 4, 3)):
            asked.append(i)
            yield start

    results = Stepper(model, 4, 3)(source())
    next(results)
    assert asked == [0]
    next(results)
    assert asked == [0, 1]


def test_a_captured_step_is_the_same(model, images):
    def stand_in(run, *examples):
        static = [example.clone() for example in examples]

        def replay(*inputs):
            for kept, given in zip(static, inputs, strict=True):
                kept.copy_(given)
            return Step(*(each.clone() for each in run(*static)))

        return replay

    expected = list(Stepper(model, 3, 6, GAIN)(batches(images, 11)))
    execution, model.execution = model.execution, Execution(Plan(graph=True), capture=stand_in)
    found = list(Stepper(model, 3, 6, GAIN)(batches(images, 11)))
    assert model.execution.used == "CUDA graph"
    model.execution = execution
    torch.testing.assert_close(found[0].latents, expected[0].latents, atol=1e-5, rtol=0)


def test_nonsense_is_refused(model):
    for arguments in ((0, 5), (4, 0), (4, 5, 1.0), (4, 5, float("nan"))):
        with pytest.raises(ValueError, match="no way to invert"):
            Stepper(model, *arguments)
    single = SinglePass(model.encoder, model.generator, torch.zeros(8), (8, 8))
    with pytest.raises(ValueError, match="has one step"):
        Stepper(single, 4, 5)
