"""The bound of latents: where it keeps them, what it leaves alone, and the file that has one."""

import pytest
import tiny_trainings
import torch
from safetensors.torch import load_file

from encoders import ReStyle, UNet, UNetConfig, bound, inspection, load_inverter, save_inverter
from encoders.execution import Execution, Plan
from encoders.training.trainer import EncoderTrainer
from generators import CheckpointError
from generators.files import checkpoint

UNET = UNetConfig(resolution=32, n_styles=8, w_dim=16, widths=(16, 16, 24, 32))


@pytest.fixture
def limits(tiny_generator):
    return bound.of_generator(tiny_generator, 2.0, is_kept=True)


@pytest.fixture
def model(tiny_generator, limits):
    torch.manual_seed(1)
    encoder = UNet(UNET).eval()
    for head in encoder.heads:
        torch.nn.init.normal_(head.linear.weight, std=0.3)
    average = tiny_generator.estimate_latent_avg(100)
    return ReStyle(encoder, tiny_generator, average, (32, 32), bound=limits).requires_grad_(False)


@pytest.fixture
def path(model, tmp_path):
    save_inverter(tmp_path / "m.safetensors", model)
    return tmp_path / "m.safetensors"


def coordinates(latents, limits):
    """In standard deviations along each axis."""
    return (latents.double() - limits.mean) @ limits.axes / limits.spread


def images(n):
    noise = torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    return noise.clamp(-1, 1)


def test_coordinates_bend_towards_the_limit_along_each_axis(limits):
    given = torch.linspace(-9, 9, 8 * 16, dtype=torch.float64).reshape(1, 8, 16)
    latents = (limits.mean + (given * limits.spread) @ limits.axes.T).float()
    found = coordinates(limits(latents), limits)
    torch.testing.assert_close(found, 2 * torch.tanh(given / 2), atol=1e-4, rtol=0)
    assert limits(latents).dtype == torch.float32


def test_latents_near_the_mean_stay_where_they_are(limits):
    latents = (limits.mean + 1e-3 * limits.spread.min() * torch.randn(5, 8, 16)).float()
    torch.testing.assert_close(limits(latents), latents, atol=1e-6, rtol=1e-6)


def test_axes_are_those_of_the_mapped_vectors(tiny_generator, limits):
    z = torch.randn(20_000, 16, generator=torch.Generator().manual_seed(5))
    found = coordinates(tiny_generator.mapping(z), limits)
    torch.testing.assert_close(found.std(dim=0), torch.ones(16).double(), atol=0.05, rtol=0)
    torch.testing.assert_close(found.mean(dim=0), torch.zeros(16).double(), atol=0.05, rtol=0)
    assert torch.equal(bound.of_generator(tiny_generator, 2.0).axes, limits.axes)


def test_axes_without_spread_hold_latents_and_blow_nothing_up(tiny_generator):
    last = tiny_generator.mapping.layers[-1]
    last.weight.data[4:] = 0  # twelve entries of w are constant
    limits = bound.of_generator(tiny_generator, 3.0)
    latents = (10 * torch.randn(4, 8, 16)).requires_grad_()
    found = limits(latents)
    found.sum().backward()
    assert found.isfinite().all()
    assert latents.grad.isfinite().all()
    assert (found[..., 4:] - limits.mean[4:]).abs().max() < 0.1
    assert limits.spread.min() == pytest.approx(bound.LEAST_SPREAD * limits.spread.max().item())


@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
def test_what_is_not_finite_stays_so(limits, value):
    latents = torch.zeros(2, 8, 16)
    latents[0, 3, 5] = value
    found = limits(latents)
    assert not found[0, 3].isfinite().any()
    assert found[1].isfinite().all()


def test_every_step_of_the_loop_is_bounded(model, limits):
    found = model.invert(images(3), n_steps=4).latents
    assert coordinates(found, limits).abs().max() <= 2 + 1e-4
    model.bound = None
    free = model.invert(images(3), n_steps=4).latents
    assert coordinates(free, limits).abs().max() > 3, "else the test would show nothing"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_captured_and_alone_it_is_the_same(model, precision):
    model.at(precision)
    expected = model.invert(images(3)).latents
    near = 1e-5 if precision == "fp32" else 0.1
    alone = model.invert(images(3)[:1]).latents
    torch.testing.assert_close(alone[:, 0], expected[:, 0], atol=near, rtol=0)
    model.execution = Execution(Plan(graph=True), capture=lambda run, example: run)
    torch.testing.assert_close(model.invert(images(3)).latents, expected, atol=near, rtol=0)
    assert model.execution.used == "CUDA graph"


def test_a_file_has_a_bound_unless_another_is_asked_for(path, model):
    expected = model.invert(images(2)).latents
    again = load_inverter(path)
    assert again.bound.limit == 2
    assert torch.equal(again.invert(images(2)).latents, expected)
    assert load_inverter(path, bound=0).bound is None
    other = load_inverter(path, bound=5)
    assert other.bound.limit == 5
    assert torch.equal(other.bound.axes, again.bound.axes)
    with pytest.raises(ValueError, match="above 0"):
        load_inverter(path, bound=-1)


def test_any_file_takes_a_bound_and_none_has_one_by_itself(model, tmp_path):
    model.bound = None
    save_inverter(tmp_path / "free.safetensors", model)
    assert checkpoint.read_header(tmp_path / "free.safetensors").format_version == 1
    assert load_inverter(tmp_path / "free.safetensors").bound is None
    bounded = load_inverter(tmp_path / "free.safetensors", bound=2)
    assert bounded.bound.limit == 2
    assert bounded.bound.identity() == {}, "it follows from the generator"


def test_inspect_reports_it(path):
    facts = inspection.describe(path)
    assert facts["bound"] == "2 standard deviations of W along each of its axes"
    assert facts["kind"] == "inverter (restyle-batch format 2)"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("spread", torch.zeros(16).double(), "above 0"),
        ("spread", torch.ones(16), "float64"),
        ("axes", torch.eye(15).double(), "axes of a bound"),
        ("mean", torch.full((16,), torch.nan).double(), "must be finite"),
        ("axes", None, "axes"),
    ],
)
def test_a_bound_that_is_none_is_refused(path, name, value, says):
    tensors = load_file(path)
    if value is None:
        del tensors[f"bound.{name}"]
    else:
        tensors[f"bound.{name}"] = value
    checkpoint.save(path, checkpoint.read_header(path), tensors)
    with pytest.raises(CheckpointError, match=says):
        load_inverter(path)


def test_training_learns_within_the_bound_and_saves_it(tiny_generator, shapes_batch, tmp_path):
    tiny_generator.latent_avg.copy_(tiny_generator.estimate_latent_avg(100))
    trainer = EncoderTrainer(tiny_trainings.encoder(bound=1.5), tiny_generator)
    before = [p.clone() for p in trainer.encoder.parameters()]
    trainer.step(shapes_batch(4))
    assert any(
        not torch.equal(a, b) for a, b in zip(before, trainer.encoder.parameters(), strict=True)
    )
    trainer.save(tmp_path / "m.safetensors", "test")
    limits = load_inverter(tmp_path / "m.safetensors").bound
    assert limits.limit == 1.5
    found = load_inverter(tmp_path / "m.safetensors").invert(shapes_batch(4)).latents
    assert coordinates(found, limits).abs().max() <= 1.5 + 1e-4
    on = tiny_trainings.encoder(start_from=str(tmp_path / "m.safetensors"))
    assert EncoderTrainer(on, tiny_generator).model.bound.limit == 1.5
