"""Networks that measure, read from files with the published names, against their numbers."""

import json

import numpy as np
import pytest
import torch

from encoders import auxiliary
from encoders.backbones import IR101_STAGES
from encoders.metrics import identity
from encoders.metrics.identity import FaceEmbedding
from encoders.metrics.perceptual import LPIPS, VGGDistance
from generators import CheckpointError

CLASSIFIER = {"classifier.1.weight": torch.zeros(3, 3), "classifier.1.bias": torch.zeros(3)}


@pytest.fixture(scope="module")
def losses(parity):
    return json.loads((parity.folder / "losses.json").read_text())


@pytest.fixture(scope="module")
def images(parity):
    return {name: parity.fill.image(name) for name in ("lpips_a", "lpips_b", "id_a", "id_b")}


@pytest.fixture
def lpips_files(parity, tmp_path):
    """Write torchvision's and LPIPS's own file of one backbone; returns their paths."""

    def write(kind):
        # Key names as torchvision and richzhang/PerceptualSimilarity publish them.
        network = LPIPS(kind)
        backbone = parity.fill.fill(network.backbone.state_dict()) | CLASSIFIER
        assert {k.split(".")[0] for k in backbone} == {"features", "classifier"}
        filled = parity.fill.fill(network.heads.state_dict())
        heads = {name: weight.abs() for name, weight in filled.items()}
        assert list(heads) == [f"lin{i}.model.1.weight" for i in range(5)]
        torch.save(backbone, tmp_path / f"{kind}_backbone.pth")
        torch.save(heads, tmp_path / f"{kind}_heads.pth")
        return tmp_path / f"{kind}_backbone.pth", tmp_path / f"{kind}_heads.pth"

    return write


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["alex", "vgg"])
def test_lpips(kind, lpips_files, losses, images):
    network = auxiliary.load_lpips(*lpips_files(kind))
    a, b = images["lpips_a"], images["lpips_b"]
    both = network(torch.cat([a, a]), torch.cat([b, a]))
    np.testing.assert_allclose(both, [losses[f"lpips_{kind}"], 0.0], atol=1e-6)
    assert both.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(network(a, b), both[:1])


def test_lpips_has_gradients(lpips_files, images):
    network = auxiliary.load_lpips(*lpips_files("alex"))
    moving = images["lpips_a"].clone().requires_grad_()
    network(moving, images["lpips_b"]).sum().backward()
    assert moving.grad.isfinite().all()
    assert moving.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="one shape"):
        network(moving, images["lpips_b"][:, :, :9])


@pytest.mark.slow
def test_vgg16_relu4_3(parity, tmp_path, losses, images):
    state = parity.fill.fill(VGGDistance().backbone.state_dict())
    torch.save(state | CLASSIFIER, tmp_path / "vgg16.pth")
    network = auxiliary.load_vgg_distance(tmp_path / "vgg16.pth")
    a, b = images["lpips_a"], images["lpips_b"]
    values = network(torch.cat([a, a]), torch.cat([b, a]))
    np.testing.assert_allclose(values, [losses["vgg16_relu4_3_l1"], 0.0], atol=1e-6)


@pytest.mark.slow
def test_arcface_on_ir_se50(parity, tmp_path, losses, images):
    shapes = json.loads((parity.folder / "ir_se50_identity.json").read_text())
    torch.save(parity.fill.from_shapes(shapes), tmp_path / "ir.pth")
    network = auxiliary.load_identity(tmp_path / "ir.pth")
    a, b = images["id_a"], images["id_b"]
    expected = np.load(parity.folder / "ir_se50_identity.npz")
    with torch.inference_mode():
        embedded = network.embed(torch.cat([a, b]))
        cosines = identity.similarity(network, torch.cat([a, a]), torch.cat([b, a]))
    for name, vector in zip("ab", embedded, strict=True):
        np.testing.assert_allclose(vector, expected[f"embedding_{name}"], atol=1e-5)
    np.testing.assert_allclose(cosines, [losses["ir_se50_cosine"], 1.0], atol=1e-6)
    large = torch.nn.functional.interpolate(a, scale_factor=2)
    torch.testing.assert_close(network.embed(large)[0], embedded[0], atol=1e-5, rtol=0)


@pytest.mark.slow
def test_curricularface_on_ir_101(tmp_path):
    # The published file is that of an IR-101 without affine parameters in its last normalisation.
    torch.manual_seed(0)
    made = FaceEmbedding(IR101_STAGES, attention=False, affine=False).eval()
    state = made.state_dict()
    assert "body.48.res_layer.4.weight" in state
    assert not any("fc1" in key or key == "output_layer.4.weight" for key in state)
    torch.save(state, tmp_path / "curricular.pth")
    network = auxiliary.load_identity(tmp_path / "curricular.pth")
    face = torch.rand(1, 3, 256, 256) * 2 - 1
    with torch.inference_mode():
        assert torch.equal(network.embed(face), made.embed(face))


def test_e4es_latent_discriminator(parity, tmp_path, losses):
    shapes = losses["latent_discriminator_keys"]
    filled = parity.fill.from_shapes({f"decoder.{k}": v for k, v in shapes.items()})
    state = {key.removeprefix("decoder."): t for key, t in filled.items()}
    for content in (state, {"discriminator_state_dict": state, "opts": {}}):
        torch.save(content, tmp_path / "d.pt")
        scores = auxiliary.load_latent_discriminator(tmp_path / "d.pt")(
            parity.fill.normal("ld", (3, 512))
        )
        np.testing.assert_allclose(scores, losses["latent_discriminator"], rtol=1e-5)


def test_wrong_files_are_named(lpips_files, tmp_path):
    backbone, heads = lpips_files("alex")
    _, others = lpips_files("vgg")
    torch.save({"body.0.x": torch.zeros(1)}, tmp_path / "odd.pth")
    torch.save({"state": {"x": 1}}, tmp_path / "nested.pth")
    odd = tmp_path / "odd.pth"
    for load, says in {
        (lambda: auxiliary.load_lpips(odd, heads)): "is not an LPIPS backbone; pass torchvision's",
        (
            lambda: auxiliary.load_lpips(backbone, others)
        ): r"lin1.model.1.weight has shape \[1, 128, 1, 1\], needs",
        (lambda: auxiliary.load_lpips(backbone, odd)): "missing lin0.model.1.weight",
        (lambda: auxiliary.load_vgg_distance(backbone)): "vgg|features",
        (lambda: auxiliary.load_identity(odd)): "is not a face embedding of 24 or 49 blocks",
        (lambda: auxiliary.load_identity(tmp_path / "nested.pth")): "is not a plain state dict",
        (lambda: auxiliary.load_latent_discriminator(odd)): "no tensor mlp.0.weight",
    }.items():
        with pytest.raises(CheckpointError, match=says) as error:
            load()
        assert "\n" not in str(error.value)
