"""Refinement: closer for each image by itself, never further, in every precision and on every path."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from encoders import Inversion, ReStyle, bootstrap
from encoders.metrics import distances
from encoders.optimization import HYBRID, optimize
from encoders.refinement import Objectives, Refiner, cache, curvature, descent
from generators import Generator, GeneratorConfig

N_GRADIENTS = 64


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(6, 32, 8)

    def forward(self, x):
        return 0.3 * self.conv(x).flatten(1).unflatten(1, (4, 8))


def tiny(seed=6, **how):
    torch.manual_seed(seed)
    generator = Generator(GeneratorConfig(8, (8, 8), z_dim=8, w_dim=8)).requires_grad_(False)
    # Layers of very different weight, as trained ones are.
    for factor, conv in zip((3.0, 1.0, 0.1), generator.synthesis.convs, strict=True):
        conv.affine.weight.mul_(factor)
    return ReStyle(Encoder().requires_grad_(False), generator, torch.zeros(8), (8, 8), **how)


@pytest.fixture(scope="module")
def model():
    return tiny()


@pytest.fixture(scope="module")
def found(model):
    """Of pictures that the generator can draw but for a little, so that there is something to find."""
    source = torch.Generator().manual_seed(1)
    latents = torch.randn(4, 4, 8, generator=source)
    images = model.generator.synthesis(latents) / 4
    return model.invert((images + 0.05 * torch.randn(images.shape, generator=source)).clamp(-1, 1))


@pytest.fixture(scope="module")
def gradients(model):
    return curvature.gradients(model, N_GRADIENTS)


def errors(found):
    return torch.stack([distances.mse(each, found.target) for each in found.thumbnails])


def part(found, chosen):
    return Inversion(
        found.latents[:, chosen],
        found.images[chosen],
        found.thumbnails[:, chosen],
        found.target[chosen],
    )


def test_it_is_one_step_more_closer_for_every_image(model, found, gradients):
    refined = Refiner(model, 20, gradients=gradients)(found)
    assert refined.latents.shape[0] == refined.thumbnails.shape[0] == 6
    assert torch.equal(refined.latents[:5], found.latents)
    before, after = errors(found), errors(refined)[-1]
    assert (after < before.min(dim=0).values).all()
    assert after.mean() < 0.3 * before.min(dim=0).values.mean()
    drawn = model.draw(refined.latents[-1])
    torch.testing.assert_close(refined.images, drawn)
    torch.testing.assert_close(refined.thumbnails[-1], model.to_input(drawn))


def test_it_goes_as_far_as_adam_in_a_third_of_the_gradients(model, found, gradients):
    start = found.latents[errors(found).argmin(dim=0), torch.arange(4)]
    adam = optimize(model, found.target, replace(HYBRID, n_steps=30), start)
    refined = Refiner(model, 10, gradients=gradients)(found)
    assert errors(refined)[-1].mean() < errors(adam)[-1].mean()


def test_an_answer_depends_on_its_image_alone(model, found, gradients):
    refiner = Refiner(model, 12, gradients=gradients)
    together, alone = refiner(found), refiner(part(found, [2]))
    # What float32 leaves of a difference in the last bit, twelve steps later.
    torch.testing.assert_close(alone.latents[-1, 0], together.latents[-1, 2], atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(alone.images[0], together.images[2], atol=1e-4, rtol=0)
    together = together.latents[-1]
    spoilt = part(found, [0, 1, 2])
    spoilt.target[1] = torch.nan
    beside = refiner(spoilt).latents[-1]
    torch.testing.assert_close(beside[[0, 2]], together[[0, 2]], atol=1e-3, rtol=1e-3)
    assert torch.equal(beside[1], found.latents[0, 1])  # nothing is better than anything


def test_more_steps_are_never_worse(model, found, gradients):
    means = [
        errors(Refiner(model, n, gradients=gradients)(found))[-1].mean().item()
        for n in (1, 2, 4, 8, 16)
    ]
    assert means == sorted(means, reverse=True)


def test_near_holds_it_near_the_encoders_answer(model, found, gradients):
    start = found.latents[errors(found).argmin(dim=0), torch.arange(4)]
    ways = []
    for near in (0.0, 0.01, 1.0):
        refined = Refiner(model, 15, Objectives(near), gradients)(found)
        ways.append((refined.latents[-1] - start).square().sum().item())
    assert ways[0] > 1.5 * ways[1] > 3 * ways[2]


def test_other_distances_are_added_by_weight(model, found, gradients):
    def reddish(a, b):
        return (a[:, 0] - b[:, 0]).square().mean(dim=(1, 2))

    plain, red = (
        Refiner(model, 20, Objectives(distances=added), gradients)(found).thumbnails[-1]
        for added in ((), ((30.0, reddish),))
    )
    assert reddish(red, found.target).mean() < 0.8 * reddish(plain, found.target).mean()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_comes_close_too(found, gradients, precision):
    half = tiny(precision=precision)
    refined = Refiner(half, 12, gradients=gradients)(found)
    assert refined.latents.dtype == torch.float32
    exact = Refiner(half, 12, gradients=gradients)(found, "fp32")
    better = errors(found).min(dim=0).values
    assert (errors(refined)[-1] < better).all()
    assert errors(exact)[-1].mean() < better.mean()


def stand_in(calls):
    """What a CPU has in place of a CUDA graph: fixed shapes, inputs that are copied."""

    def capture(run, *examples):
        static = [example.clone() for example in examples]
        calls.append(len(static[0]))

        def replay(*inputs):
            for kept, given in zip(static, inputs, strict=True):
                kept.copy_(given)
            return run(*static)

        return replay

    return capture


def test_a_captured_step_is_the_same_and_smaller_batches_are_filled_up(model, found, gradients):
    plain, captured = (Refiner(model, 6, gradients=gradients) for _ in range(2))
    calls = []
    captured.capture = stand_in(calls)
    for given in (found, part(found, [0, 1]), found):
        expected = plain(given)
        torch.testing.assert_close(captured(given).latents, expected.latents, atol=1e-3, rtol=1e-3)
    assert calls == [4]


@pytest.mark.parametrize("when", ["capturing", "first replay"])
def test_what_fails_in_capturing_is_one_warning_and_the_same_answer(model, found, gradients, when):
    def fail(*_):
        raise RuntimeError("no graphs today")

    plain = Refiner(model, 5, gradients=gradients)
    refiner = Refiner(
        model, 5, gradients=gradients, capture=fail if when == "capturing" else lambda *_: fail
    )
    with pytest.warns(RuntimeWarning, match="no graphs today") as warned:
        first = refiner(found)
    assert len(warned) == 1
    assert torch.equal(first.latents, plain(found).latents)
    assert torch.equal(refiner(found).latents, first.latents)


def test_of_two_models_the_second_draws(model, found, gradients):
    both = bootstrap(tiny(7), model)
    start = both.invert(found.target)
    refined = Refiner(both, 5, gradients=gradients)(start)
    torch.testing.assert_close(refined.images, model.draw(refined.latents[-1]))
    assert (errors(refined)[-1] < errors(start).min(dim=0).values).all()


def test_the_curvature_is_even_in_its_coordinates(gradients):
    found = curvature.coordinates(gradients)
    even = torch.stack([found.gradient(each[None])[0] for each in gradients])
    before, after = (
        torch.linalg.eigvalsh(g.flatten(1).T @ g.flatten(1) / len(g)) for g in (gradients, even)
    )
    assert after[-1] / after.median() < 0.05 * before[-1] / before.median()
    # One map and its transpose.
    u, g = torch.randn(2, 32), torch.randn(2, 4, 8)
    torch.testing.assert_close((found.latents(u) * g).sum(), (u * found.gradient(g)).sum())


def test_a_quadratic_is_solved_exactly():
    torch.manual_seed(0)
    a = torch.randn(2, 6, 6)
    hessian = a @ a.transpose(1, 2) + torch.eye(6)
    bottom = torch.randn(2, 6)

    def objective(u):
        by = (hessian @ (u - bottom)[..., None])[..., 0]
        return 0.5 * ((u - bottom) * by).sum(1), by

    state = descent.start(objective, 2, 6, torch.device("cpu"))
    for _ in range(25):
        state = descent.advance(objective, state)
    torch.testing.assert_close(state.at, bottom, atol=1e-3, rtol=0)


def test_gradients_are_kept_and_damaged_ones_found_anew(model, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(curvature, "N_GRADIENTS", 8)
    first = cache.gradients(model)
    assert torch.equal(first, curvature.gradients(model, 8))
    [path] = cache.folder().iterdir()
    monkeypatch.setattr(curvature, "gradients", None)
    assert torch.equal(cache.gradients(model), first)
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(curvature, "N_GRADIENTS", 8)
    path.write_bytes(b"damaged")
    assert torch.equal(cache.gradients(model), first)
    # Where nothing can be kept, nothing is.
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    assert torch.equal(cache.gradients(model), first)


def test_nonsense_is_refused(model, gradients):
    with pytest.raises(ValueError, match="at least 1"):
        Refiner(model, 0, gradients=gradients)
    with pytest.raises(ValueError, match="must be 0 or more"):
        Objectives(float("nan"))
