"""Encoders of stylegan3-editing: read from files in the published layout, against their numbers."""

import json
import pathlib

import numpy as np
import pytest
import tiny_trainings
import torch
from published_files import encoder_shapes
from torch.nn import functional as F

from encoders import ReStyle, UNet, UNetConfig, inspection, load_inverter, published, save_inverter
from encoders.training.trainer import EncoderTrainer
from generators import CheckpointError, StyleGAN3Config, StyleGAN3Generator
from generators.files import checkpoint, nvidia_stylegan3

CASES = ["restyle_psp_sg3", "restyle_e4e_sg3"]
KINDS = (
    "BackboneEncoder",
    "ResNetBackboneEncoder",
    "ProgressiveBackboneEncoder",
    "ResNetProgressiveBackboneEncoder",
)


def write(case, parity, path):
    """Write a case as a file in the published layout; returns what its JSON and its numbers tell."""
    told = json.loads((parity.folder / f"{case}.json").read_text())
    expected = np.load(parity.folder / f"{case}.npz")
    state = parity.fill_sg3.from_shapes_sg3(told["state_dict"], expected, told["salt"])
    opts = told["opts"] | {
        name: pathlib.PosixPath(told["opts"][name]) for name in ("exp_dir", "stylegan_weights")
    }
    average = state["decoder.mapping.w_avg"]
    torch.save({"state_dict": state, "opts": opts, "latent_avg": average, "optimizer": {}}, path)
    return told, expected


def assert_drawn(images, expected, name=""):
    """Whether images [..., 3, 1024, 1024] are the published ones."""
    pooled, patch = expected[f"{name}pooled"], expected[f"{name}patch"]
    np.testing.assert_allclose(F.avg_pool2d(images, 32), pooled, atol=1e-3, rtol=0)
    middle = slice(504, 520)
    np.testing.assert_allclose(images[..., middle, middle], patch, atol=1e-3, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_reproduces_the_published_implementation(case, parity, tmp_path):
    path = tmp_path / "model.pt"
    told, expected = write(case, parity, path)
    facts = inspection.describe(path)
    assert facts["kind"] == "inverter (published ReStyle)"
    assert (facts["trained with"], facts["architecture"]) == ("3 steps", "StyleGAN3-R")
    model = load_inverter(path)
    path.unlink()

    # A second step is the loop, which both have alike; each takes seconds.
    n = 2 if told["move"] is not None else 1
    result = model.invert(parity.fill.image(case, 256, 256), n, keep_images=True)

    average = model.average_image
    pooled = F.avg_pool2d(average, 8)
    np.testing.assert_allclose(pooled, expected["average_pooled"], atol=1e-3, rtol=0)
    patch = average[:, 120:136, 120:136]
    np.testing.assert_allclose(patch, expected["average_patch"], atol=1e-3, rtol=0)
    np.testing.assert_allclose(result.latents[:, 0], expected["latents"][:n], atol=1e-4, rtol=0)
    assert_drawn(result.images[:, 0], {name: expected[name][:n] for name in ("pooled", "patch")})
    if told["move"] is not None:
        transform = torch.from_numpy(expected["landmarks_transform"]).float()
        with torch.inference_mode():
            last = torch.from_numpy(expected["latents"][-1:])
            moved = model.draw(last, transform=transform)
        assert_drawn(moved[0], expected, "unaligned_")


@pytest.fixture
def tiny():
    """A 16 px StyleGAN3 for the 512 entries that published encoders predict."""
    torch.manual_seed(0)
    config = StyleGAN3Config.standard(16, "R", channel_base=128, channel_max=8)
    return StyleGAN3Generator(config).requires_grad_(False)


@pytest.mark.parametrize("kind", KINDS)
def test_every_type_fits_strictly(kind, parity, tiny):
    state = {
        name: torch.empty(shape, device="meta")
        for name, shape in encoder_shapes(parity, kind, 6, 16).items()
    }
    state |= {f"decoder.{k}": t for k, t in nvidia_stylegan3.export(tiny).items()}
    batch = torch.eye(3).expand(2, 3, 3)  # of whatever was drawn last in training
    state["decoder.synthesis.input.transform"] = batch
    content = {"state_dict": state, "opts": {"encoder_type": kind}}
    parts = published.from_content(content, "m.pt")
    assert published.describe(content, "m.pt").n_steps == 3
    assert parts.encoder.config.n_styles == 16
    # Without an average of its own, such a file has the generator's.
    assert torch.equal(parts.latent_avg, tiny.latent_avg)
    assert torch.equal(parts.generator.synthesis.input.transform, torch.eye(3))
    del state["decoder.synthesis.L3_36_8.magnitude_ema"]
    with pytest.raises(CheckpointError, match=r"missing synthesis.L3_36_8.magnitude_ema"):
        published.from_content(content, "m.pt")


@pytest.mark.parametrize("case", CASES)
def test_the_container_is_read_as_data(case, parity):
    path = parity.folder / f"{case}_structure.pt"
    content = checkpoint.load_pt(path)
    opts = content["opts"]
    assert opts["encoder_type"] in KINDS
    assert isinstance(opts["stylegan_weights"], str)
    assert content["state_dict"]["decoder.synthesis.input.transform"].ndim == 3
    with pytest.raises(CheckpointError, match="is not a StyleGAN3 generator: .* layers in its syn"):
        load_inverter(path)


def test_our_own_file_holds_the_same_model(tiny, tmp_path):
    path = tmp_path / "ours.safetensors"
    encoder = UNet(UNetConfig(32, 16, 512, widths=(8, 8, 8)))
    torch.nn.init.normal_(next(p for p in encoder.parameters() if not p.abs().sum()), std=0.05)
    model = ReStyle(encoder, tiny, torch.randn(512), (32, 32)).eval().requires_grad_(False)
    save_inverter(path, model)
    header, _ = checkpoint.read_outline(path)
    assert header.format_version == checkpoint.WITH_OTHER_GENERATORS
    assert inspection.describe(path)["architecture"] == "StyleGAN3-R"
    images = torch.randn(2, 3, 32, 32).clamp(-1, 1)
    given, again = (m.invert(images, 2, keep_images=True) for m in (model, load_inverter(path)))
    assert torch.equal(given.latents, again.latents)
    assert torch.equal(given.images, again.images)


def test_an_encoder_is_trained_for_one():
    torch.manual_seed(0)
    config = StyleGAN3Config.standard(16, channel_base=256, channel_max=16, z_dim=16, w_dim=16)
    generator = StyleGAN3Generator(config).requires_grad_(False)
    generator.latent_avg.copy_(generator.estimate_latent_avg(100))
    images = generator(torch.randn(4, 16)).clamp(-1, 1)
    trainer = EncoderTrainer(tiny_trainings.encoder(learning_rate=3e-3, n_steps=1), generator)
    errors = [trainer.step(images)["l2"] for _ in range(8)]
    assert errors[-1] < 0.9 * errors[0]
