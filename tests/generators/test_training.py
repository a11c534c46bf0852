"""StyleGAN2's training at 16 px: what a step does, and that steps teach."""

import io
import math
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from generators import load_discriminator, load_generator
from generators.training.config import PRESETS
from generators.training.protocol import NotFinite
from generators.training.trainer import GeneratorTrainConfig, GeneratorTrainer, adam

TINY = GeneratorTrainConfig(
    resolution=16,
    channels=(12, 12, 8),
    discriminator_channels=(12, 12, 8),
    z_dim=8,
    w_dim=8,
    n_mapping_layers=2,
    batch_size=8,
    r1_interval=3,
    path_length_interval=2,
)
STILL = replace(TINY, learning_rate=0.0, discriminator_learning_rate=0.0)


def discs(n, seed):
    """Discs of two colours, [n, 3, 16, 16], somewhere on a dark ground."""
    draw = torch.Generator().manual_seed(seed)
    x, y = torch.rand(2, n, 1, 1, generator=draw) * 0.8 - 0.4
    radius = 0.35 + 0.3 * torch.rand(n, 1, 1, generator=draw)
    axis = (torch.arange(16) + 0.5) / 8 - 1
    distance = ((axis - x).square() + (axis[:, None] - y).square()).sqrt()
    inside = torch.sigmoid(12 * (radius - distance))[:, None]
    colours = torch.tensor([[0.8, -0.6, -0.6], [-0.6, -0.2, 0.9]])
    chosen = colours[torch.randint(2, (n,), generator=draw)][:, :, None, None]
    return inside * chosen - (1 - inside) * 0.8


def tensors(trainer):
    """Copies of everything that a trainer keeps."""
    buffer = io.BytesIO()
    torch.save(trainer.state_dict(), buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def require_equal(first, second, where="state"):
    if isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for name, value in first.items():
            require_equal(value, second[name], f"{where}.{name}")
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second), where
    else:
        assert first == second, where


def gradients(trainer, network):
    named = getattr(trainer, network).named_parameters()
    return {name: p.grad for name, p in named if p.grad is not None}


@pytest.mark.slow
def test_a_tiny_gan_learns_discs_of_two_colours():
    config = replace(
        TINY,
        channels=(24, 24, 16),
        discriminator_channels=(24, 24, 16),
        batch_size=16,
        r1_gamma=0.1,
        r1_interval=16,
        path_length_interval=4,
        learning_rate=5e-3,
        discriminator_learning_rate=4e-3,
        ema_half_life=500,
    )
    trainer = GeneratorTrainer(config, "cpu")
    unseen = discs(64, seed=10_000)
    before = trainer.validate(unseen)
    for n in range(120):
        trainer.step(discs(16, seed=n))
    after = trainer.validate(unseen)
    assert after.score < before.score / 2.5  # of four seeds the worst came to 1 / 4.5
    assert after.distances["swd"] == [after.score]
    assert after.named() == {"swd/16px": after.score}
    assert after.grid.shape == (4, 8, 3, 16, 16)
    assert torch.equal(after.grid[0], unseen[:8])
    assert after.score == trainer.validate(unseen).score


def test_regularisers_come_when_they_are_due():
    trainer = GeneratorTrainer(TINY, "cpu")
    terms = [trainer.step(discs(8, n)) for n in range(5)]
    assert ["r1" in found for found in terms] == [True, False, False, True, False]
    assert ["path_length" in found for found in terms] == [True, False, True, False, True]
    always = {"discriminator", "generator", "real_score", "fake_score"}
    assert all(always <= found.keys() for found in terms)
    means = [found["path_mean"] for found in terms if "path_mean" in found]
    assert 0 < means[0] < means[1] < means[2]
    never = GeneratorTrainer(replace(TINY, r1_gamma=0.0, path_length_weight=0.0), "cpu")
    assert never.step(discs(8, 0)).keys() == always


@pytest.mark.parametrize(
    ("network", "interval"),
    [("discriminator", "r1_interval"), ("generator", "path_length_interval")],
)
def test_lazy_regularisation_weighs_as_much_as_one_in_every_step(network, interval):
    """With weights held still, one gradient in k steps is the sum of k gradients."""
    lazy, eager = (GeneratorTrainer(replace(STILL, **{interval: k}), "cpu") for k in (5, 1))
    for trainer in (lazy, eager):
        trainer.step(discs(8, 0))  # the regulariser's gradient is the last that is left
    for name, gradient in gradients(eager, network).items():
        torch.testing.assert_close(gradients(lazy, network)[name], 5 * gradient)


def test_lazy_regularisation_slows_adam_for_its_extra_steps():
    network = torch.nn.Linear(1, 1)
    group = adam(network, 2e-3, interval=16).param_groups[0]
    assert group["lr"] == pytest.approx(2e-3 * 16 / 17)
    assert group["betas"] == (0.0, pytest.approx(0.99 ** (16 / 17)))
    group = adam(network, 2e-3, interval=0).param_groups[0]
    assert (group["lr"], group["betas"]) == (2e-3, (0.0, 0.99))


def test_the_average_follows_with_its_half_life():
    trainer = GeneratorTrainer(replace(TINY, ema_half_life=6, ema_warm_up=0.5), "cpu")
    bias = trainer.ema.mapping.layers[0].bias
    expected = None
    for n, half_life in enumerate((0, 4, 6, 6)):  # half of the images seen before, at most 6
        trainer.step(discs(8, n))
        keep = 0.5 ** (8 / half_life) if half_life else 0.0
        now = trainer.generator.mapping.layers[0].bias.detach().clone()
        expected = now if expected is None else keep * expected + (1 - keep) * now
        torch.testing.assert_close(bias, expected)
    assert not torch.equal(bias, trainer.generator.mapping.layers[0].bias)
    assert trainer.n_images == 32


def test_three_steps_and_three_more_are_six_to_the_bit():
    config = replace(TINY, flip=True)
    whole = GeneratorTrainer(config, "cpu")
    for n in range(3):
        whole.step(discs(8, n))
    halfway = tensors(whole)
    expected = [whole.step(discs(8, n)) for n in range(3, 6)]
    torch.manual_seed(99)  # what the process draws elsewhere has no influence
    continued = GeneratorTrainer(config, "cpu")
    continued.load_state_dict(halfway)
    assert [continued.step(discs(8, n)) for n in range(3, 6)] == expected
    require_equal(tensors(continued), tensors(whole))


def test_steps_leave_the_process_s_random_numbers_alone_and_depend_on_the_seed():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, second = (GeneratorTrainer(replace(STILL, seed=seed), "cpu") for seed in (0, 1))
    second.generator.load_state_dict(first.generator.state_dict())
    second.discriminator.load_state_dict(first.discriminator.state_dict())
    terms = [trainer.step(discs(8, 0)) for trainer in (first, second)]
    assert torch.equal(torch.rand(1), expected)
    assert terms[0]["real_score"] == terms[1]["real_score"]
    assert terms[0]["fake_score"] != terms[1]["fake_score"]


def test_parts_of_a_batch_have_the_gradient_of_the_whole():
    """To rounding, for the discriminator's groups of 4 stay whole; but for the noise, drawn anew."""
    config = replace(STILL, batch_size=16, mixing=0.0, r1_gamma=0.0, path_length_weight=0.0)
    images, z = discs(16, 0), torch.randn(16, 8)
    found = []
    for accumulate in (1, 2, 4):
        trainer = GeneratorTrainer(replace(config, accumulate=accumulate), "cpu")
        terms = trainer.step(images, z)
        of_generator = {
            name: gradient
            for name, gradient in gradients(trainer, "generator").items()
            if "noise_strength" not in name
        }
        found.append((terms, gradients(trainer, "discriminator") | of_generator))
    for terms, parts in found[1:]:
        assert terms == pytest.approx(found[0][0], rel=1e-4)
        for name, gradient in parts.items():
            expected = found[0][1][name]
            torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-5)


def test_what_is_no_number_changes_nothing():
    trainer = GeneratorTrainer(TINY, "cpu")
    trainer.step(discs(8, 0))
    before = tensors(trainer)
    images = discs(8, 1)
    images[3, 0, 5, 5] = math.nan
    with pytest.raises(NotFinite, match="step 1: the discriminator's gradient .*discriminator nan"):
        trainer.step(images)
    require_equal(tensors(trainer), before)
    trainer.step(discs(8, 1))
    trainer.path_mean.fill_(math.inf)
    with pytest.raises(NotFinite, match="the generator's gradient .*path_length"):
        trainer.step(discs(8, 2))
    assert all(p.isfinite().all() for p in trainer.generator.parameters())
    assert trainer.global_step == 2


def test_numbers_are_fetched_once_a_batch(fetches):
    trainer = GeneratorTrainer(replace(TINY, clip=1.0), "cpu")
    with fetches() as found:
        terms = trainer.step(discs(8, 0))
    assert {"r1", "path_length"} <= terms.keys()
    assert found == ["tolist"]


def test_a_bounded_gradient_has_that_norm():
    clip = 1e-3
    trainer = GeneratorTrainer(replace(STILL, clip=clip), "cpu")
    trainer.step(discs(8, 0))
    for network in ("generator", "discriminator"):
        norm = torch.nn.utils.get_total_norm(gradients(trainer, network).values())
        assert norm.item() == pytest.approx(clip, rel=1e-2)


def test_half_precision_is_close():
    trainers = [GeneratorTrainer(replace(STILL, precision=p), "cpu") for p in ("fp32", "bf16")]
    full, half = (trainer.step(discs(8, 0)) for trainer in trainers)
    assert half != full
    assert half == pytest.approx(full, rel=0.1, abs=0.02)
    for trainer in trainers:
        assert all(p.dtype == torch.float32 for p in trainer.generator.parameters())
    assert trainers[1].ema.synthesis.compute_dtype == torch.float32


def test_real_images_are_mirrored_if_asked():
    symmetric = discs(8, 0)
    symmetric = (symmetric + symmetric.flip(3)) / 2
    slanted = symmetric + torch.linspace(-0.2, 0.2, 16)

    def score(images, flip):
        trainer = GeneratorTrainer(replace(STILL, flip=flip), "cpu")
        return trainer.step(images)["real_score"]

    assert score(symmetric, True) == pytest.approx(score(symmetric, False), abs=1e-6)
    assert score(slanted, True) != pytest.approx(score(slanted, False), abs=1e-4)


def test_saved_networks_are_read_and_gone_on_from(tmp_path):
    trainer = GeneratorTrainer(TINY, "cpu")
    trainer.step(discs(8, 0))
    trainer.step(discs(8, 1))
    trainer.save(tmp_path / "last.safetensors", "of a test")
    generator = load_generator(tmp_path / "last.safetensors")
    z = torch.randn(4, 8)
    assert torch.equal(generator(z), trainer.ema(z))
    w = generator.mapping(torch.randn(20_000, 8))
    torch.testing.assert_close(generator.latent_avg, w.mean(dim=0), atol=0.05, rtol=0)
    assert generator.latent_avg.abs().max() > 0
    discriminator = load_discriminator(tmp_path / "last.discriminator.safetensors")
    images = discs(4, 0)
    assert torch.equal(discriminator(images), trainer.discriminator(images))

    files = {
        "start_from": str(tmp_path / "last.safetensors"),
        "discriminator_from": str(tmp_path / "last.discriminator.safetensors"),
    }
    again = GeneratorTrainer(GeneratorTrainConfig(resolution=16, batch_size=8, **files), "cpu")
    assert torch.equal(again.generator(z), generator(z))
    assert torch.equal(again.discriminator(images), discriminator(images))
    again.step(discs(8, 1))
    assert not torch.equal(again.generator(z), generator(z))
    with pytest.raises(ValueError, match=r"last\.safetensors is for 16 px .* for 32 px"):
        GeneratorTrainConfig(resolution=32, start_from=files["start_from"]).networks()


WORKER = """
import sys, torch
from torch import distributed
from generators.training.trainer import GeneratorTrainConfig, GeneratorTrainer

rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
config = GeneratorTrainConfig(
    resolution=16, channels=(8, 8, 8), z_dim=8, w_dim=8, n_mapping_layers=1, batch_size=4
)
trainer = GeneratorTrainer(config, "cpu")
images = torch.randn(2, 4, 3, 16, 16, generator=torch.Generator().manual_seed(0))[rank]
terms = [trainer.step(images) for _ in range(2)]
torch.save({"terms": terms, "state": trainer.state_dict()}, f"{folder}/{rank}.pt")
distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_workers_stay_equal_on_different_images_and_codes(tmp_path):
    command = [sys.executable, "-c", WORKER]
    workers = [subprocess.Popen([*command, str(rank), str(tmp_path)]) for rank in range(2)]
    assert [worker.wait() for worker in workers] == [0, 0]
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    require_equal(first["state"], second["state"])
    assert first["state"]["path_mean"] > 0
    assert first["state"]["n_images"] == 16
    for name in ("real_score", "fake_score"):
        assert first["terms"][0][name] != second["terms"][0][name]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"precision": "fp16"}, "fp32 or bf16, not 'fp16'"),
        ({"batch_size": 12, "accumulate": 2}, "12 in 2 parts: .* groups of 4"),
        ({"batch_size": 8, "accumulate": 3}, "8 in 3 parts"),
        ({"r1_interval": 0}, "r1_interval must be at least 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(changed, says):
    with pytest.raises(ValueError, match=says):
        replace(TINY, **changed)


def test_the_preset_for_a_cpu_is_small():
    with torch.device("meta"):
        networks = PRESETS["cpu"].networks()
    assert sum(p.numel() for network in networks for p in network.parameters()) < 2e6
    assert PRESETS["stylegan2"] == GeneratorTrainConfig()


def test_the_published_widths_are_the_default():
    with torch.device("meta"):
        generator, discriminator = GeneratorTrainConfig().networks()
    assert generator.config.channels == discriminator.config.channels
    assert generator.config.channels == (512, 512, 512, 512, 512, 256, 128)
