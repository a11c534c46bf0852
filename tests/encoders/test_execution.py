"""Compiled, captured, filled up or fallen back: the same rows as step by step."""

import copy
import warnings

import pytest
import torch
from torch import nn

from encoders import ReStyle, bootstrap, bound, execution
from encoders.execution import Execution, Plan
from encoders.loop import Steps
from generators import Generator, GeneratorConfig


class Encoder(nn.Module):
    """As little as an encoder can be: a compiler is done with it in seconds."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(6, 32, 8)

    def forward(self, x):
        return self.conv(x).flatten(1).unflatten(1, (4, 8))


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(6)
    config = GeneratorConfig(8, (4, 4), z_dim=8, w_dim=8)
    return Encoder().requires_grad_(False), Generator(config).requires_grad_(False)


@pytest.fixture
def make(networks):
    def model(**how):
        return ReStyle(*networks, torch.zeros(8), (8, 8), **how)

    return model


def images(n, seed=7):
    return torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def stand_in(run, example):
    """What a CPU has in place of a CUDA graph: one shape, one input, outputs that are written again."""
    static, outputs = example.clone(), run(example)

    def replay(target):
        assert target.shape == static.shape
        static.copy_(target)
        for output, found in zip(outputs, run(static), strict=True):
            output.copy_(found)
        return Steps(*(output.clone() for output in outputs))

    return replay


@pytest.fixture
def captured(make):
    """A function from a stand-in for captures to a model that uses it."""

    def model(capture, **how):
        found = make(**how)
        found.execution = Execution(Plan(graph=True), capture=capture)
        return found

    return model


def assert_near(found, expected, error=1e-6):
    """Of 1, or of the value where that is larger: a float32 near 2 has no finer steps than 2e-7."""
    scale = expected.abs().clamp(min=1)
    torch.testing.assert_close(found / scale, expected / scale, atol=error, rtol=0)


def assert_same(found, expected, error=1e-6):
    for name in ("latents", "images", "thumbnails", "target"):
        assert_near(getattr(found, name), getattr(expected, name), error)


@pytest.mark.slow
def test_compiled_equals_eager_alone_and_in_batches_that_are_filled_up(make, networks):
    limits = bound.of_generator(networks[1], 2.0)
    eager, compiled = make(bound=limits), make(compile="always", bound=limits)
    given = images(4)
    expected = eager.invert(given, n_steps=3)
    assert_same(compiled.invert(given, n_steps=3), expected)
    assert compiled.execution.used == "compiled"
    # Of the same size as compiled for, smaller, alone: all by the batch of four.
    for part in (slice(0, 3), slice(2, 3)):
        found = compiled.invert(given[part], n_steps=3)
        assert_near(found.latents, expected.latents[:, part])
        assert_near(found.images, expected.images[part])
    spoilt = given.clone()
    spoilt[1] = torch.nan
    found = compiled.invert(spoilt, n_steps=3)
    assert found.latents[:, 1].isnan().all()
    for i in (0, 2, 3):
        assert_near(found.latents[:, i], expected.latents[:, i])


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("way", ["eager", "captured"])
def test_a_result_depends_on_its_image_alone(make, captured, way, precision):
    model = captured(stand_in, precision=precision) if way == "captured" else make()
    model.at(precision)
    given = images(5)
    exact = model.invert_exactly(given).latents
    together = model.invert(given).latents
    # Half precision: no further apart than the error that each has.
    near = 2e-6 if precision == "fp32" else (together - exact).abs().max().item()
    assert near < 0.05
    spoilt = given.clone()
    spoilt[3] = torch.nan
    for found in (
        model.invert(given[:1]).latents[:, 0],
        model.invert(given[:3]).latents[:, 0],
        model.invert(spoilt).latents[:, 0],
    ):
        torch.testing.assert_close(found, together[:, 0], atol=near, rtol=0)


def test_a_smaller_batch_is_filled_up_and_cut_and_results_are_not_overwritten(captured):
    sizes = []

    def counting(run, example):
        sizes.append(len(example))
        return stand_in(run, example)

    model = captured(counting)
    first = model.invert(images(4), keep_images=True)
    kept = copy.deepcopy(first)
    second = model.invert(images(2, seed=8), keep_images=True)
    assert_same(first, kept, error=0)
    assert second.images.shape == (5, 2, 3, 8, 8)
    assert second.latents.shape[1] == second.thumbnails.shape[1] == len(second.target) == 2
    model.invert(images(2), keep_images=False)
    assert sizes == [4, 2], "another graph only where none fits"
    model.invert(images(6), keep_images=True)
    assert sizes == [4, 2, 6]
    sizes.clear()
    model.execution = Execution(Plan(graph=True), batch_size=8, capture=counting)
    for n in (1, 8, 3):
        found = model.invert(images(n))
        assert len(found.images) == n
    assert sizes == [8], "a small first batch is filled up as well"


def test_a_plan_is_followed_as_it_is(make):
    expected = make().invert(images(3))
    model = make()
    model.execution = Execution(Plan(graph=True), capture=stand_in)
    assert_same(model.invert(images(3)), expected)
    assert model.execution.used == "CUDA graph"
    assert copy.deepcopy(model.execution).wanted == Plan(graph=True)


def test_two_models_after_each_other_are_captured_as_one(make):
    first, second = (
        make(),
        ReStyle(copy.deepcopy(make().encoder), make().generator, torch.ones(8), (8, 8)),
    )
    both = bootstrap(first, second)
    expected = both.invert(images(3))
    both.execution = Execution(Plan(graph=True), capture=stand_in)
    assert_same(both.invert(images(3)), expected)
    assert both.execution.used == "CUDA graph"


@pytest.mark.parametrize("change", ["weights", "precision", "average", "device"])
def test_what_was_captured_of_other_weights_is_not_used(captured, change):
    model = captured(stand_in)
    model.encoder, model.generator = copy.deepcopy((model.encoder, model.generator))
    before = model.invert(images(3))
    if change == "weights":
        model.generator.synthesis.const.mul_(-2)
        model.encoder.conv.weight.mul_(-2)
    elif change == "precision":
        model.at("bf16")
    elif change == "average":
        model.set_latent_avg(torch.ones(8))
    else:
        model.to("cpu")
    found = model.invert(images(3))
    model.execution = Execution()
    assert_same(found, model.invert(images(3)))
    assert torch.equal(found.latents, before.latents) == (change == "device")


def _no_capture(run, example):
    raise RuntimeError("operation not permitted when stream is capturing")


def _no_replay(run, example):
    def replay(target):
        raise RuntimeError("CUDA error: out of memory")

    return replay


@pytest.mark.slow
@pytest.mark.parametrize("failing", ["compiling", "capturing", "first replay"])
def test_what_fails_is_one_warning_and_the_rows_of_eager(make, captured, failing, request):
    expected = make().invert(images(3))
    if failing == "compiling":
        # A real failure: inductor finds no compiler that works.
        import torch._inductor.config as inductor

        patched = inductor.patch({"cpp.cxx": ("false",), "force_disable_caches": True})
        patched.__enter__()
        request.addfinalizer(lambda: patched.__exit__(None, None, None))
        torch.compiler.reset()
        model = make(compile="always")
    else:
        model = captured(_no_capture if failing == "capturing" else _no_replay)
    with pytest.warns(RuntimeWarning, match="runs uncompiled from here on") as told:
        found = model.invert(images(3))
    assert len([one for one in told if one.category is RuntimeWarning]) == 1
    assert_same(found, expected, error=0)
    assert model.execution.used == "eager"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_same(model.invert(images(3)), expected, error=0)


def test_a_row_done_again_exactly_is_that_of_a_model_in_float32(make):
    model = make(precision="bf16")
    exact, rounded = make(), model.invert(images(2))
    found = model.invert_exactly(images(2))
    assert model.precision == "bf16"
    assert_same(model.invert(images(2)), rounded, error=0)
    model.at("fp32")
    assert_same(found, exact.invert(images(2)), error=0)
    assert not torch.equal(found.latents, rounded.latents)


def test_pixels_are_images_on_the_scale_of_the_model(make):
    pixels = torch.randint(0, 256, (2, 8, 8, 3), dtype=torch.uint8)
    expected = make().invert(pixels.permute(0, 3, 1, 2) / 127.5 - 1)
    assert_same(make().invert_pixels(pixels), expected)


CUDA, CPU = torch.device("cuda"), torch.device("cpu")


@pytest.mark.parametrize(
    ("wanted", "device", "is_long", "missing", "expected"),
    [
        ("never", CUDA, True, "", Plan(reason="--compile never")),
        ("auto", CPU, True, "", Plan(reason="on a CPU, which only --compile always compiles for")),
        ("auto", CUDA, False, "", Plan(reason="too few images to win back the minute that compiling takes")),
        ("auto", CUDA, True, "", Plan(inductor=True, graph=True)),
        ("auto", CUDA, True, "no triton", Plan(graph=True, reason="no triton")),
        ("always", CUDA, False, "", Plan(inductor=True, graph=True)),
        ("always", CPU, False, "", Plan(inductor=True)),
        ("always", CPU, False, "no compiler", Plan(reason="no compiler")),
    ],
)  # fmt: skip
def test_what_each_choice_comes_to(wanted, device, is_long, missing, expected, monkeypatch):
    monkeypatch.setattr(execution, "missing_for_compiling", lambda _: missing)
    assert execution.plan(wanted, device, is_long) == expected


def test_what_is_missing_for_compiling_is_named(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CXX", raising=False)
    missing = execution.missing_for_compiling(torch.device("cpu"))
    assert missing == "there is no C compiler on the PATH"
