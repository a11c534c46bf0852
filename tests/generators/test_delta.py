"""Low-rank changes of a synthesis: drawn with, kept in files, and refused where they do not belong."""

from dataclasses import asdict, replace

import pytest
import torch

from generators import CheckpointError, Generator, delta, save_generator
from generators.delta import Delta, Origin
from generators.files import checkpoint

ORIGIN = Origin("a" * 64, "run", "000.tar", "anna", 3, 0, 50, "1: rank 2", "b" * 64)


def filled(synthesis, seed=0, rank=2):
    """One that changes something."""
    started = Delta.start(synthesis, rank, seed)
    source = torch.Generator().manual_seed(seed)
    return Delta.of(
        {name: torch.randn(t.shape, generator=source) for name, t in started.tensors.items()}
    )


@pytest.fixture
def synthesis(tiny_generator):
    return tiny_generator.synthesis


@pytest.fixture
def latents(synthesis):
    shape = (3, synthesis.n_styles, synthesis.w_dim)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def kept(synthesis, tmp_path):
    """The path of a delta's file."""
    path = tmp_path / "anna.safetensors"
    delta.save(path, filled(synthesis), ORIGIN)
    return path


def test_it_starts_as_no_change_and_changes_every_convolution(synthesis, latents):
    started = Delta.start(synthesis, 4, seed=0)
    torch.testing.assert_close(started.draw(synthesis, latents), synthesis(latents))
    own = dict(synthesis.named_parameters())
    changed = filled(synthesis).weights(synthesis)
    assert {n for n, p in own.items() if p.ndim == 4 and n != "const"} == set(changed)
    for name, weight in changed.items():
        change = (weight - own[name]).flatten(1)
        assert torch.linalg.matrix_rank(change) == min(2, *change.shape)


def test_the_synthesis_itself_stays_as_it_is(synthesis, latents):
    before, state = synthesis(latents), checkpoint.tensors_sha256(synthesis.state_dict())
    assert (filled(synthesis).draw(synthesis, latents) - before).abs().max() > 0.01
    assert torch.equal(synthesis(latents), before)
    assert checkpoint.tensors_sha256(synthesis.state_dict()) == state
    assert not any(p.requires_grad for p in synthesis.parameters())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_one_is_never_drawn_with_what_was_kept_of_another(synthesis, latents, mode):
    with mode():
        drawn = [filled(synthesis, seed).draw(synthesis, latents) for seed in (0, 1, 0, 1)]
    assert torch.equal(drawn[0], drawn[2])
    assert torch.equal(drawn[1], drawn[3])
    assert not torch.allclose(drawn[0], drawn[1], atol=1e-3)


def test_a_mixture_adds_up_changes(synthesis):
    parts = [(0.25, filled(synthesis, 0)), (0.75, filled(synthesis, 1, rank=3))]
    mixed = Delta.mixed(parts).weights(synthesis)
    for name, own in delta.convolutions(synthesis).items():
        change = sum(share * (each.weights(synthesis)[name] - own) for share, each in parts)
        torch.testing.assert_close(mixed[name], own + change, rtol=1e-4, atol=1e-4)


def test_it_comes_back_from_its_file(synthesis, latents, kept):
    found = delta.load(kept, synthesis, ORIGIN)
    assert torch.equal(found.draw(synthesis, latents), filled(synthesis).draw(synthesis, latents))
    anyone = delta.load(kept, synthesis, replace(ORIGIN, latent_sha256=""))
    assert set(anyone.tensors) == set(found.tensors)
    assert kept.stat().st_size < 0.3 * sum(p.numel() * 4 for p in synthesis.parameters())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"generator_sha256": "c" * 64}, "tuned for another generator"),
        ({"key": "ben"}, r"tuned for another row \(anna, sample 3, face 0\), not for ben"),
        ({"face": 1}, "tuned for another row"),
        ({"run": "other"}, "tuned for another row"),
        ({"n_steps": 60}, "tuned in 50 steps"),
        ({"settings": "1: rank 3"}, "tuned in 50 steps with the settings 1: rank 2"),
        ({"latent_sha256": "d" * 64}, "tuned for another latent than the row of anna holds"),
    ],
)
def test_what_was_tuned_for_something_else_is_refused(synthesis, kept, change, message):
    with pytest.raises(CheckpointError, match=message) as refused:
        delta.load(kept, synthesis, replace(ORIGIN, **change))
    assert "\n" not in str(refused.value)


def spoilt(change):
    """Tensors of a delta, changed."""

    def make(tensors):
        tensors = dict(tensors)
        change(tensors)
        return tensors

    return make


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (spoilt(lambda t: t.pop("convs.0.weight.up")), "convs.0.weight is no pair of factors"),
        (spoilt(lambda t: t.update({"x.up": torch.ones(2, 1), "x.down": torch.ones(1, 2)})), "unexpected x"),
        (
            spoilt(lambda t: t.update({"convs.0.weight.up": torch.ones(9, 2)})),
            "convs.0.weight has another shape",
        ),
        (spoilt(lambda t: t.update({"convs.0.weight.up": torch.ones(16, 2).half()})), "not float32"),
        (spoilt(lambda t: t["convs.0.weight.up"].fill_(torch.nan)), "not finite"),
        (spoilt(dict.clear), "missing convs.0.weight"),
    ],
)  # fmt: skip
def test_tensors_that_do_not_fit_are_refused(synthesis, tmp_path, make, message):
    path = tmp_path / "bad.safetensors"
    header = checkpoint.Header(delta.KIND, asdict(ORIGIN))
    checkpoint.save(path, header, make(filled(synthesis).tensors))
    with pytest.raises(CheckpointError, match=message):
        delta.load(path, synthesis, ORIGIN)


def test_files_of_other_kinds_and_damaged_ones_are_refused(
    tiny_generator, synthesis, kept, tmp_path
):
    foreign = tmp_path / "generator.safetensors"
    save_generator(foreign, tiny_generator)
    with pytest.raises(CheckpointError, match="kind generator, but the kind pivot is needed"):
        delta.load(foreign, synthesis, ORIGIN)
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        delta.load(tmp_path / "none.safetensors", synthesis, ORIGIN)
    for config in ({}, {**asdict(ORIGIN), "face": "0"}, {**asdict(ORIGIN), "n_steps": 10**30}):
        checkpoint.save(foreign, checkpoint.Header(delta.KIND, config), {})
        with pytest.raises(CheckpointError, match="damaged header"):
            delta.load(foreign, synthesis, ORIGIN)
    kept.write_bytes(kept.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        delta.load(kept, synthesis, ORIGIN)


def test_it_does_not_fit_a_generator_of_another_shape(kept, tiny_generator):
    config = replace(tiny_generator.config, channels=(16, 16, 12, 4))
    with pytest.raises(CheckpointError, match="does not fit this generator"):
        delta.load(kept, Generator(config).synthesis, ORIGIN)
