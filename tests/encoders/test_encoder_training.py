"""One batch of encoder training: what is added up, what is detached, what a bad batch changes."""

import math
from dataclasses import replace

import pytest
import tiny_trainings
import torch

from encoders import UNet, load_inverter
from encoders.metrics.distances import mse
from encoders.training.residual_batch import parts_of, random_source
from encoders.training.trainer import PRESETS, EncoderTrainConfig, EncoderTrainer, NotFinite
from generators import Generator, GeneratorConfig

TINY, CPU = tiny_trainings.encoder(), torch.device("cpu")


@pytest.fixture
def make(tiny_generator):
    tiny_generator.latent_avg.copy_(tiny_generator.estimate_latent_avg(100))

    def trainer(**settings):
        return EncoderTrainer(replace(TINY, **settings), tiny_generator)

    return trainer


def weights(trainer):
    return {name: t.clone() for name, t in trainer.encoder.state_dict().items()}


def gradients_of_a_step(trainer, images):
    """What one batch adds up, caught where the optimizer would use it."""
    caught = []
    trainer.optimizer.step = lambda: caught.append(
        [p.grad.clone() for p in trainer.encoder.parameters()]
    )
    trainer.step(images)
    return caught


def test_gradients_of_every_residual_step_are_added_up_each_on_its_own(make, shapes_batch):
    trainer, images = make(), shapes_batch(4)
    [together] = gradients_of_a_step(trainer, images)
    model, alone = trainer.model, []
    latents, image = model.start(4)
    for _ in range(3):
        latents = model.step(images, image.detach(), latents.detach())
        image = model.draw(latents)
        loss = mse(image, images).mean()
        alone.append(torch.autograd.grad(loss, list(trainer.encoder.parameters())))
    assert all(sum(g.abs().sum() for g in gradients) > 0 for gradients in alone)
    for found, *parts in zip(together, *alone, strict=True):
        torch.testing.assert_close(found, sum(parts), rtol=1e-4, atol=1e-7)


def test_an_update_for_every_step_sees_that_steps_gradient(make, shapes_batch):
    caught = gradients_of_a_step(make(update_every_step=True), shapes_batch(4))
    [together] = gradients_of_a_step(make(), shapes_batch(4))
    assert len(caught) == 3
    # The optimizer was held back, so the weights are the same for all steps.
    for found, *parts in zip(together, *caught, strict=True):
        torch.testing.assert_close(found, sum(parts), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("settings", [{}, {"update_every_step": True, "disturb": 0.5}])
def test_accumulation_equals_the_whole_batch(settings, make, shapes_batch):
    images = shapes_batch(5)
    whole = gradients_of_a_step(make(flip=True, init="random", **settings), images)
    parts = gradients_of_a_step(make(flip=True, init="random", accumulate=3, **settings), images)
    for one, other in zip(whole, parts, strict=True):
        for a, b in zip(one, other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)
    terms = [make(accumulate=n).step(images) for n in (1, 3)]
    assert terms[0] == pytest.approx(terms[1], rel=1e-4)


@pytest.mark.parametrize("settings", [{}, {"update_every_step": True}])
def test_images_that_are_no_numbers_change_nothing(settings, make, shapes_batch):
    trainer, images = make(ema_half_life=10.0, **settings), shapes_batch(4)
    trainer.step(images)
    before = weights(trainer), trainer.average.n_updates, trainer.global_step
    images[2, 1, 3, 3] = torch.nan
    with pytest.raises(NotFinite, match="batch 1: the images contain NaN or infinity"):
        trainer.step(images)
    after = weights(trainer), trainer.average.n_updates, trainer.global_step
    assert before[1:] == after[1:]
    assert all(torch.equal(after[0][name], tensor) for name, tensor in before[0].items())
    trainer.step(shapes_batch(4))  # and the next batch is as good as ever


def test_a_term_that_is_no_number_is_named(make, shapes_batch):
    trainer = make(pull=0.1)
    before = weights(trainer)
    with pytest.raises(NotFinite, match="batch 0: the term pull is nan"):
        trainer.step(shapes_batch(4), torch.full((4, 16), torch.nan))
    trainer.objective.spread.fill_(1e-30)  # an overflow in a loss
    with pytest.raises(NotFinite, match="batch 0: the term pull is inf"):
        trainer.step(shapes_batch(4), torch.randn(4, 16))
    trainer.encoder.stem.weight.register_hook(lambda g: g * torch.inf)  # or in a gradient
    with pytest.raises(NotFinite, match="batch 0: the norm of the gradients is"):
        trainer.step(shapes_batch(4))
    assert all(torch.equal(weights(trainer)[name], tensor) for name, tensor in before.items())


@pytest.mark.slow
def test_compact_learns(tiny_generator):
    for to_rgb in tiny_generator.synthesis.to_rgbs:
        to_rgb.weight.mul_(0.2)  # random ones draw far beyond [-1, 1]
    config = replace(
        PRESETS["compact"], widths=(16, 16, 16), batch_size=8, n_batches=30, warm_up=5, n_steps=2
    )
    trainer = EncoderTrainer(replace(config, ema_half_life=40.0), tiny_generator)
    draw = torch.Generator().manual_seed(0)

    def drawn(n):
        return tiny_generator(torch.randn(n, 16, generator=draw), noise="const")

    held_out = drawn(8)
    before = trainer.validate(held_out)
    for _ in range(30):
        terms = trainer.step(drawn(8))
    after = trainer.validate(held_out)
    assert after.distances["mse"][-1] < 0.6 * before.distances["mse"][-1]
    assert after.score < 0.8 * before.score
    assert set(terms) == {"l2", "l1", "detail", "ms_ssim", "total"}


def test_validation_is_of_the_saved_file(make, shapes_batch, tmp_path):
    trainer, images = make(ema_half_life=100.0, precision="bf16"), shapes_batch(10)
    for _ in range(4):
        trainer.step(images[:4])
    found = trainer.validate(images)
    trainer.save(tmp_path / "model.safetensors", "a test")
    result = load_inverter(tmp_path / "model.safetensors").invert(images, 3)
    expected = [mse(step, images).mean().item() for step in result.thumbnails]
    assert found.distances["mse"] == pytest.approx(expected, rel=1e-4)
    assert set(found.distances) == {"mse", "ms_ssim"}
    assert found.score == pytest.approx(expected[-1], rel=1e-4)
    assert found.grid.shape == (4, 8, 3, 32, 32)
    assert torch.equal(found.grid[0], images[:8])


def test_the_average_is_that_of_the_weights_after_every_update(make, shapes_batch):
    trainer, seen = make(ema_half_life=8.0), []
    assert torch.equal(trainer.finished.encoder.stem.weight, trainer.encoder.stem.weight)
    for number in range(4):
        trainer.step(shapes_batch(4, number))
        seen.append(weights(trainer)["stem.weight"])
    keep = 0.5 ** (4 / 8.0)  # a batch of 4 images
    expected = seen[0]
    for n, weight in enumerate(seen[1:], start=2):
        part = min(keep, 1 - 1 / n)
        expected = part * expected + (1 - part) * weight
    torch.testing.assert_close(trainer.finished.encoder.stem.weight, expected)
    # Without an average, what is validated and saved are the latest weights.
    trainer = make()
    trainer.step(shapes_batch(4))
    trainer.validate(shapes_batch(4))
    assert torch.equal(trainer.finished.encoder.stem.weight, trainer.encoder.stem.weight)


def test_rates_steps_and_stages_follow_the_batch_number():
    config = EncoderTrainConfig(
        n_batches=100, learning_rate=1.0, warm_up=4, schedule="cosine", ramp=0.3, n_steps=5
    )
    for n, warm in ((0, 0.25), (3, 1.0), (50, 1.0), (100, 1.0)):
        expected = warm * (0.5 + 0.5 * math.cos(math.pi * n / 100))
        assert config.learning_rate_at(n) == pytest.approx(expected)
    assert replace(config, schedule="constant").learning_rate_at(99) == 1.0
    assert [config.n_steps_at(n) for n in (0, 9, 10, 20, 29, 30, 99)] == [2, 2, 3, 4, 4, 5, 5]
    assert replace(config, ramp=0.0).n_steps_at(0) == 5
    assert replace(config, n_steps=1).n_steps_at(0) == 1
    assert config.stage_at(0) is None
    e4e = PRESETS["restyle-e4e"]
    # e4e's published steps: 0, 20,000, 22,000, ...
    stages = [e4e.stage_at(n) for n in (0, 19_999, 20_000, 21_999, 22_000, 52_000)]
    assert stages == [0, 0, 1, 1, 2, 17]


def test_the_optimizer_gets_the_rate_of_its_batch(make, shapes_batch):
    trainer = make(warm_up=2, optimizer="ranger")
    for expected in (5e-4, 1e-3, 1e-3):
        trainer.step(shapes_batch(4))
        assert [group["lr"] for group in trainer.optimizer.param_groups] == [expected]


def test_clipping_bounds_what_the_optimizer_sees(make, shapes_batch):
    [free] = gradients_of_a_step(make(), shapes_batch(4))
    [bounded] = gradients_of_a_step(make(clip=1e-3), shapes_batch(4))

    def norm(gradients):
        return math.sqrt(sum(g.square().sum().item() for g in gradients))

    assert norm(free) > 2e-3
    assert norm(bounded) == pytest.approx(1e-3, rel=1e-3)


def test_a_single_pass_encoder_is_trained_on_one_step(make, shapes_batch, tmp_path):
    trainer = make(single_pass=True, ramp=0.5)
    assert len(gradients_of_a_step(trainer, shapes_batch(4))) == 1
    assert len(trainer.validate(shapes_batch(4)).distances["mse"]) == 1
    trainer.save(tmp_path / "one.safetensors", "a test")
    assert load_inverter(tmp_path / "one.safetensors").max_steps == 1


def test_disturbed_images_are_seen_and_clean_ones_asked_for(make, shapes_batch):
    trainer, images, seen = make(disturb=0.5), shapes_batch(4), []
    step = trainer.model.step
    trainer.model.step = lambda target, *rest: seen.append(target) or step(target, *rest)
    asked = []
    objective = trainer.objective.forward
    trainer.objective.forward = lambda image, target, *rest: (
        asked.append(target) or objective(image, target, *rest)
    )
    trainer.step(images)
    assert all(torch.equal(target, images) for target in asked)
    assert all(torch.equal(one[:2], images[:2]) for one in seen)
    assert all((one[2:] - images[2:]).abs().mean() > 0.03 for one in seen)


def test_strange_images_are_seen_and_asked_for(make, shapes_batch):
    trainer, images = make(strange=0.5, disturb=0.25), shapes_batch(4)
    [part] = parts_of(images, None, trainer.model, trainer.config, random_source(0, 0, CPU))
    assert torch.equal(part.seen[:3], part.target[:3])
    assert ((part.seen[:2] - images[:2]).abs().mean(dim=(1, 2, 3)) > 0.05).all()
    assert torch.equal(part.target[2:], images[2:])
    assert (part.seen[3] - images[3]).abs().mean() > 0.03
    assert part.seen.abs().max() <= 1
    [again] = parts_of(images, None, trainer.model, trainer.config, random_source(0, 0, CPU))
    assert torch.equal(part.seen, again.seen)


def test_pictures_of_a_view_are_compared_at_the_encoders_size(make, shapes_batch):
    view = {"view_rows": (8, 24), "view_columns": (8, 24), "input_side": 12, "widths": (8, 8)}
    trainer = make(**view, n_steps=1)
    assert trainer.input_size == (8, 8)
    pictures = shapes_batch(4)[:, :, 8:24, 8:24]
    latents, _ = trainer.model.start(4)
    with torch.no_grad():
        square = trainer.model.generator.synthesis(latents)
        found = trainer.model.step(
            torch.nn.functional.avg_pool2d(pictures, 2),
            torch.nn.functional.avg_pool2d(square[:, :, 8:24, 8:24], 2),
            latents,
        )
        drawn = trainer.model.generator.synthesis(found)[:, :, 8:24, 8:24]
        rest = torch.nn.functional.avg_pool2d(drawn - pictures, 2)
    assert trainer.step(pictures)["l2"] == pytest.approx(rest.square().mean().item(), rel=1e-4)


def test_the_demos_shape_is_that_of_compact(tiny_generator):
    trainer = EncoderTrainer(replace(PRESETS["compact"], widths=(8, 8, 8)), tiny_generator)
    assert isinstance(trainer.encoder, UNet)
    assert trainer.input_size == (32, 32)


def test_numbers_are_fetched_once_a_batch(make, shapes_batch, fetches):
    every = {"update_every_step": True, "ema_half_life": 8.0, "clip": 1.0}
    trainer = make(**every, disturb=0.5, flip=True, init="random", l1=1.0, accumulate=2)
    trainer.step(shapes_batch(4))
    with fetches() as found:
        trainer.step(shapes_batch(4))
    # The first looks at the images where the loop has them, before they are copied to the device.
    assert found == ["scalar", "tolist"]


@pytest.mark.parametrize("bad", [1, 2])
def test_of_a_batch_the_updates_before_the_first_bad_one_are_made(bad, make, shapes_batch):
    settings = {"update_every_step": True, "ema_half_life": 8.0, "ramp": 0.0}
    trainer, shorter = (make(**settings, n_steps=n) for n in (3, bad))
    for each in (trainer, shorter):
        each.config = replace(each.config, ema_half_life=8.0 * 4 / each.config.n_steps)
    calls, objective = [], trainer.objective.forward

    def spoilt(*args):
        terms = objective(*args)
        calls.append(terms)
        return terms if len(calls) <= bad else {**terms, "total": terms["total"] * torch.nan}

    trainer.objective.forward = spoilt
    shorter.step(shapes_batch(4))
    with pytest.raises(NotFinite, match="batch 0: the term total is nan"):
        trainer.step(shapes_batch(4))
    assert len(calls) == 3, "nothing was fetched before the end"
    expected = shorter.state_dict() | {"n_batches": 0}
    torch.testing.assert_close(trainer.state_dict(), expected, rtol=0, atol=0)


@pytest.mark.slow
def test_statistics_are_those_before_a_bad_batch(shapes_batch):
    generator = Generator(GeneratorConfig(32, (8, 8, 8, 8), n_mapping_layers=1))
    config = replace(TINY, single_pass=True, backbone_weights="random")
    config = replace(config, encoder="SingleStyleCodeEncoder", update_every_step=True)
    trainer = EncoderTrainer(config, generator)
    before = {name: t.clone() for name, t in trainer.encoder.state_dict().items()}
    trainer.encoder.heads.linear.bias.register_hook(lambda g: g * torch.nan)
    with pytest.raises(NotFinite, match="the norm of the gradients is nan"):
        trainer.step(shapes_batch(2))
    torch.testing.assert_close(dict(trainer.encoder.state_dict()), before, rtol=0, atol=0)


def test_ranger_fetches_before_its_update(make, shapes_batch, fetches):
    trainer = make(optimizer="ranger")
    before = weights(trainer)
    handle = trainer.encoder.stem.weight.register_hook(lambda g: g * torch.nan)
    with pytest.raises(NotFinite, match="the norm of the gradients is nan"):
        trainer.step(shapes_batch(4))
    assert all(torch.equal(weights(trainer)[name], tensor) for name, tensor in before.items())
    assert trainer.optimizer.n_steps == 0
    handle.remove()
    with fetches() as found:
        trainer.step(shapes_batch(4))
    assert found.count("tolist") == 1
