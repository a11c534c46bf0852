"""What `inspect` says of each kind of file."""

import argparse
import hashlib

import pytest
import torch
from published_files import encoder_shapes, generator_shapes

from encoders import ReStyle, UNet, UNetConfig, View, inspection, save_inverter
from encoders.metrics.identity import FaceEmbedding
from encoders.metrics.perceptual import LPIPS
from encoders.training.latent_discriminator import LatentDiscriminator
from generators import (
    CheckpointError,
    Discriminator,
    DiscriminatorConfig,
    save_discriminator,
    save_generator,
)


@pytest.fixture
def published(parity, tmp_path):
    """Write a published encoder of zeros; returns its path."""

    def write(kind, in_channels, n_blocks=2, average=None, **opts):
        shapes = encoder_shapes(parity, kind, in_channels, 2 * n_blocks)
        shapes |= generator_shapes(parity, n_blocks)
        opts = argparse.Namespace(encoder_type=kind, **opts)
        state = {key: torch.zeros(shape) for key, shape in shapes.items()}
        torch.save({"state_dict": state, "opts": opts, "latent_avg": average}, tmp_path / "m.pt")
        return tmp_path / "m.pt"

    return write


def test_a_published_restyle_encoder(published):
    path = published("ResNetBackboneEncoder", 6, average=torch.zeros(512), n_iters_per_batch=4)
    facts = inspection.describe(path)
    assert facts["kind"] == "inverter (published ReStyle)"
    assert facts["encoder"] == "ResNetBackboneEncoder"
    assert (facts["steps"], facts["trained with"]) == ("as many as asked for", "4 steps")
    assert (facts["input"], facts["resolution"]) == ("256x256 px", "8x8 px")
    assert facts["styles"] == "4 of 512"
    assert facts["latent average"] == "yes"
    assert facts["needs"] == "nothing else"
    assert facts["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert facts["parameters"].endswith("million, with buffers")


def test_published_single_pass_encoders(published):
    facts = inspection.describe(published("Encoder4Editing", 3))
    assert (facts["kind"], facts["steps"]) == ("inverter (published e4e)", "1")
    assert facts["latent average"] == "no; computed from a fixed seed when loaded"
    facts = inspection.describe(published("GradualStyleEncoder", 3, start_from_latent_avg=False))
    assert facts["kind"] == "inverter (published pSp)"
    assert facts["latent average"] == "not used (start_from_latent_avg)"


def test_a_published_encoder_of_cars(published):
    path = published("SingleStyleCodeEncoder", 3, n_blocks=8, dataset_type="cars_encode")
    facts = inspection.describe(path)
    assert facts["resolution"] == "512x512 px, without its padding 512x384"
    assert facts["input"] == "256x192 px"


@pytest.mark.parametrize("embedded", [True, False])
def test_files_of_ours(tiny_generator, tmp_path, embedded):
    save_generator(tmp_path / "g.safetensors", tiny_generator)
    encoder = UNet(UNetConfig(resolution=32, n_styles=8, w_dim=16, widths=(16, 16, 24, 32)))
    view = View(rows=(4, 28))
    model = ReStyle(encoder, tiny_generator, torch.zeros(16), (24, 32), view=view)
    name = None if embedded else str(tmp_path / "g.safetensors")
    save_inverter(tmp_path / "m.safetensors", model, generator_name=name, notes="tiny")
    facts = inspection.describe(tmp_path / "m.safetensors")
    assert facts["kind"] == "inverter (restyle-batch format 1)"
    assert (facts["encoder"], facts["input"], facts["notes"]) == ("UNet", "32x24 px", "tiny")
    assert (facts["steps"], facts["styles"]) == ("as many as asked for", "8 of 16")
    if embedded:
        assert facts["resolution"] == "32x32 px, without its padding 32x24"
        assert facts["needs"] == "nothing else"
    else:
        assert facts["needs"] == f"the generator {name}"
    facts = inspection.describe(tmp_path / "g.safetensors")
    assert facts["kind"] == "generator (restyle-batch format 1)"
    assert "encoder that was trained with it" in facts["needs"]


def test_a_discriminator_of_ours(tmp_path):
    discriminator = Discriminator(DiscriminatorConfig(16, (8, 6, 4)))
    save_discriminator(tmp_path / "d.safetensors", discriminator, "of a test")
    facts = inspection.describe(tmp_path / "d.safetensors")
    assert facts["kind"] == "discriminator (restyle-batch format 1)"
    assert (facts["resolution"], facts["notes"]) == ("16x16 px", "of a test")
    assert "training" in facts["needs"]
    assert "latent average" not in facts


def test_networks_that_measure(tmp_path):
    lpips, vgg = LPIPS("alex"), LPIPS("vgg")
    discriminator = LatentDiscriminator().state_dict()
    for state, kind, needs in (
        (
            lpips.backbone.state_dict(),
            "classifier (torchvision AlexNet)",
            "--lpips-heads, the file",
        ),
        (vgg.backbone.state_dict(), "classifier (torchvision VGG16)", "as --lpips-weights"),
        (lpips.heads.state_dict(), "LPIPS heads", "as --lpips-heads: --lpips-weights, torchvision"),
        (FaceEmbedding().state_dict(), "face embedding (IR-SE 50)", "as --identity-model"),
        (
            {"discriminator_state_dict": discriminator},
            "latent discriminator (e4e)",
            "used in training",
        ),
    ):
        torch.save(state, tmp_path / "n.pth")
        facts = inspection.describe(tmp_path / "n.pth")
        assert facts["kind"] == kind
        assert needs in facts["needs"]
        assert float(facts["parameters"].split()[0]) > 0 or kind == "LPIPS heads"


def test_what_is_none_of_these_is_said(tmp_path):
    torch.save({"weights": torch.zeros(2), "epoch": 3}, tmp_path / "x.pt")
    with pytest.raises(
        CheckpointError, match=r"not a file that can be used here.*has epoch, weights"
    ):
        inspection.describe(tmp_path / "x.pt")
