import json

import numpy as np
import pytest
import torch

from generators import CheckpointError, load_discriminator, save_discriminator
from generators.discriminator import Discriminator, DiscriminatorConfig, minibatch_stddev
from generators.files import checkpoint, rosinality


@pytest.fixture(scope="module")
def published(parity):
    """The state dict of the published discriminator at 256 px with the parity weights."""
    shapes = json.loads((parity.folder / "discriminator256.json").read_text())
    shapes = {f"decoder.{key}": shape for key, shape in shapes.items()}
    state = parity.fill.from_shapes(shapes)
    return {key.removeprefix("decoder."): tensor for key, tensor in state.items()}


@pytest.mark.slow
def test_reproduces_the_published_implementation(published, parity, tmp_path):
    torch.save({"d": published, "g_ema": {}}, tmp_path / "trained.pt")
    network = rosinality.load_discriminator(tmp_path / "trained.pt")
    expected = json.loads((parity.folder / "losses.json").read_text())
    images = torch.cat([parity.fill.image("d_a"), parity.fill.image("d_b")])
    np.testing.assert_allclose(network(images), expected["discriminator256"], atol=1e-5)
    single = [network(image[None]).item() for image in images]
    np.testing.assert_allclose(single, expected["discriminator256_single"], atol=1e-5)


def test_missing_and_unexpected_tensors_are_named(published, tmp_path):
    changed = dict(published)
    changed["final_linear.2.bias"] = changed.pop("final_linear.1.bias")
    says = r"missing final_linear\.1\.bias; unexpected final_linear\.2\.bias"
    with pytest.raises(CheckpointError, match=says):
        rosinality.convert_discriminator(changed, "here")
    torch.save({"g_ema": {}}, tmp_path / "g.pt")
    with pytest.raises(CheckpointError, match="no entry d"):
        rosinality.load_discriminator(tmp_path / "g.pt")
    torch.save({"d": 1}, tmp_path / "g.pt")
    with pytest.raises(CheckpointError, match="in place of tensors"):
        rosinality.load_discriminator(tmp_path / "g.pt")


def test_any_resolution_and_width_has_gradients():
    network = Discriminator(DiscriminatorConfig(16, (8, 6, 4)))
    images = torch.randn(8, 3, 16, 16, requires_grad=True)
    scores = network(images)
    assert scores.shape == (8,)
    scores.sum().backward()
    assert images.grad.abs().sum() > 0


def test_spread_is_measured_within_interleaved_groups_of_four():
    x = torch.randn(8, 2, 4, 4)
    spread = minibatch_stddev(x)[:, 2, 0, 0]
    for first in (0, 1):
        group = x[first::2]
        expected = (group.var(dim=0, unbiased=False) + 1e-8).sqrt().mean()
        torch.testing.assert_close(spread[first::2], expected.expand(4))


def test_wrong_arguments_are_named():
    network = Discriminator(DiscriminatorConfig(16, (8, 6, 4)))
    with pytest.raises(ValueError, match=r"images must be \[N, 3, 16, 16\]"):
        network(torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match="a batch of 6 images: .* groups of 4"):
        network(torch.zeros(6, 3, 16, 16))
    with pytest.raises(ValueError, match="3 channel counts for a resolution of 32"):
        DiscriminatorConfig(32, (8, 6, 4))


def test_a_saved_discriminator_gives_the_same_scores(tmp_path):
    network = Discriminator(DiscriminatorConfig(16, (8, 6, 4)))
    save_discriminator(tmp_path / "d.safetensors", network, "of a test")
    again = load_discriminator(tmp_path / "d.safetensors")
    images = torch.randn(4, 3, 16, 16)
    assert torch.equal(again(images), network(images))
    assert again.config == network.config
    assert not any(p.requires_grad for p in again.parameters())


def test_rosinalitys_discriminator_is_loaded_as_ours_is(published, tmp_path):
    torch.save({"d": published, "g_ema": {}}, tmp_path / "trained.pt")
    assert load_discriminator(tmp_path / "trained.pt").config.resolution == 256


def test_damaged_and_hostile_discriminators_are_refused(tmp_path):
    path = tmp_path / "d.safetensors"
    checkpoint.save(path, checkpoint.Header("generator", {}), {"x": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="of kind generator, but the kind discriminator"):
        load_discriminator(path)
    many = [1] * 1000
    for config in (
        {},
        {"resolution": 2**1001, "channels": many},
        {"resolution": 16, "channels": 3},
    ):
        checkpoint.save(path, checkpoint.Header("discriminator", config), {"x": torch.zeros(1)})
        with pytest.raises(CheckpointError, match="damaged header"):
            load_discriminator(path)


def test_half_precision_scores_are_close():
    network = Discriminator(DiscriminatorConfig(32, (16, 16, 12, 8)))
    images = torch.randn(8, 3, 32, 32)
    full = network(images)
    network.compute_dtype = torch.bfloat16
    half = network(images)
    assert half.dtype == torch.float32
    assert not torch.equal(half, full)
    torch.testing.assert_close(half, full, atol=0.03, rtol=0.03)
