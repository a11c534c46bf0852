"""Terms of the objective: the published numbers, one by one, and their weighted sum by hand."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from encoders.metrics.perceptual import VGGDistance
from encoders.training import moco
from encoders.training.discriminators import Discriminators, LatentDiscriminatorTrainer
from encoders.training.losses import TERMS, LossConfig, Objective
from encoders.training.moco import MoCo
from generators import CheckpointError, save_discriminator
from generators.discriminator import Discriminator, DiscriminatorConfig


@pytest.fixture(scope="module")
def published(parity):
    return json.loads((parity.folder / "losses.json").read_text())


@pytest.fixture
def objective(tiny_generator):
    return lambda **settings: Objective(LossConfig(**settings), tiny_generator)


@pytest.fixture
def latents():
    return torch.zeros(1, 8, 16)


def test_lpips_is_the_published_one(objective, published, parity, lpips_files, latents):
    made = objective(lpips=0.8, lpips_weights=lpips_files[0], lpips_heads=lpips_files[1])
    a, b = parity.fill.image("lpips_a"), parity.fill.image("lpips_b")
    terms = made(a, b, latents)
    np.testing.assert_allclose(terms["lpips"], published["lpips_alex"], atol=1e-6)
    np.testing.assert_allclose(terms["total"], 0.8 * published["lpips_alex"], atol=1e-6)


def test_vgg_is_the_published_one(objective, published, parity, tmp_path, latents):
    torch.save(parity.fill.fill(VGGDistance().backbone.state_dict()), tmp_path / "vgg16.pth")
    made = objective(vgg=0.8, vgg_weights=str(tmp_path / "vgg16.pth"))
    terms = made(parity.fill.image("lpips_a"), parity.fill.image("lpips_b"), latents)
    np.testing.assert_allclose(terms["vgg"], published["vgg16_relu4_3_l1"], atol=1e-6)


def test_identity_is_one_minus_the_published_cosine(
    objective, published, parity, arcface_file, latents
):
    made = objective(identity=0.1, identity_model=arcface_file)
    a = parity.fill.image("id_a").requires_grad_()
    terms = made(a, parity.fill.image("id_b"), latents)
    expected = 1 - published["ir_se50_cosine"]
    np.testing.assert_allclose(terms["identity"].detach(), expected, atol=1e-6)
    terms["total"].backward()
    assert a.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in made.parameters())


def test_an_image_discriminators_opinion_is_weighted_with_the_others(
    tiny_generator, tmp_path, shapes_batch
):
    # (That a discriminator scores as the published one: tests/generators/test_discriminator.py.)
    torch.manual_seed(0)
    discriminator = Discriminator(DiscriminatorConfig(32, (8, 8, 6, 4)))
    save_discriminator(tmp_path / "d.safetensors", discriminator)
    config = LossConfig(adversarial=0.2, l2=1.0, discriminator=str(tmp_path / "d.safetensors"))
    images, target = shapes_batch(4, 0), shapes_batch(4, 1)
    judged = Discriminators(config, 1e-4, tiny_generator).judge(images, torch.zeros(4, 8, 16))
    opinion = -discriminator(images).mean()
    torch.testing.assert_close(judged["adversarial"], opinion)
    terms = Objective(config, tiny_generator)(images, target, torch.zeros(4, 8, 16), judged=judged)
    torch.testing.assert_close(terms["total"], 0.2 * opinion + (images - target).square().mean())


def test_a_latent_discriminators_opinion_is_that_of_the_published_discriminator(
    published, parity, tiny_generator
):
    shapes = published["latent_discriminator_keys"]
    filled = parity.fill.from_shapes({f"decoder.{k}": v for k, v in shapes.items()})
    discriminators = Discriminators(LossConfig(latent_adversarial=0.1), 1e-4, tiny_generator)
    discriminators.latent = LatentDiscriminatorTrainer(512, 1e-4, torch.device("cpu"))
    discriminators.latent.discriminator.load_state_dict(
        {key.removeprefix("decoder."): tensor for key, tensor in filled.items()}
    )
    latents = parity.fill.normal("ld", (3, 512))[:, None]
    judged = discriminators.judge(torch.zeros(3, 3, 32, 32), latents)
    # The scores are so low that softplus(-score) is -score.
    expected = -np.mean(published["latent_discriminator"])
    np.testing.assert_allclose(judged["latent_adversarial"], expected, rtol=1e-5)


def test_the_weighted_sum_by_hand(objective, tiny_generator):
    made = objective(l2=2.0, l1=0.5, w_norm=0.1, delta_norm=0.01, pull=0.3)
    draw = torch.Generator().manual_seed(0)
    image, target = (torch.rand(2, 3, 32, 32, generator=draw) * 2 - 1 for _ in range(2))
    latents, w = torch.randn(2, 8, 16, generator=draw), torch.randn(2, 16, generator=draw)
    terms = made(image, target, latents, w)
    assert set(terms) == {"l2", "l1", "w_norm", "delta_norm", "pull", "total"}
    average, spread = tiny_generator.latent_avg.numpy(), made.spread.numpy()
    x, v = latents.double().numpy(), w.double().numpy()
    by_hand = {
        "l2": np.mean((image.numpy() - target.numpy()) ** 2),
        "w_norm": np.mean([np.sqrt(((one - average) ** 2).sum()) for one in x]),
        "delta_norm": np.mean(
            [sum(np.sqrt(((one[i] - one[0]) ** 2).sum()) for i in range(1, 8)) for one in x]
        ),
        "pull": np.mean(((x - v[:, None]) / spread) ** 2),
    }
    for name, expected in by_hand.items():
        np.testing.assert_allclose(terms[name], expected, rtol=1e-5, err_msg=name)
    weights = {"l2": 2.0, "l1": 0.5, "w_norm": 0.1, "delta_norm": 0.01, "pull": 0.3}
    expected = sum(weight * terms[name].item() for name, weight in weights.items())
    np.testing.assert_allclose(terms["total"], expected, rtol=1e-6)
    assert "pull" not in made(image, target, latents), "the z is not known"


def test_ms_ssim_of_equal_images_costs_nothing(objective, shapes_batch):
    images = shapes_batch(2)
    terms = objective(ms_ssim=0.4)(images, images, torch.zeros(2, 8, 16))
    assert terms["total"].abs() < 1e-5
    assert objective(ms_ssim=0.4)(-images, images, torch.zeros(2, 8, 16))["total"] > 0.1


def test_only_terms_with_a_weight_are_computed(objective, latents):
    images = torch.zeros(1, 3, 32, 32)
    assert set(objective(l2=1.0)(images, images, latents)) == {"l2", "total"}
    # (Nor are their networks asked for: no file is given here.)
    assert "lpips" in TERMS
    assert objective()(images, images, latents) == {"total": 0.0}


def test_features_of_a_discriminator(objective, tmp_path, shapes_batch):
    torch.manual_seed(0)
    discriminator = Discriminator(DiscriminatorConfig(16, (8, 6, 4)))
    save_discriminator(tmp_path / "d.safetensors", discriminator)
    made = objective(features=1.0, discriminator=str(tmp_path / "d.safetensors"))
    a, b = shapes_batch(3, 0).requires_grad_(), shapes_batch(3, 1)
    terms = made(a, b, torch.zeros(3, 8, 16))
    small = [
        torch.nn.functional.interpolate(x, (16, 16), mode="bilinear", antialias=True)
        for x in (a, b)
    ]
    maps = [discriminator.features(x) for x in small]
    expected = torch.stack([(p - q).abs().mean() for p, q in zip(*maps, strict=True)]).mean()
    torch.testing.assert_close(terms["features"], expected)
    terms["total"].backward()
    assert a.grad.abs().sum() > 0
    assert made(b, b, torch.zeros(3, 8, 16))["features"] == 0
    with pytest.raises(ValueError, match="judges square pictures, not 32x24"):
        made(a[:, :, 4:28], b[:, :, 4:28], torch.zeros(3, 8, 16))


def test_moco_reads_the_published_checkpoint(objective, parity, tmp_path, latents):
    torch.manual_seed(0)
    network = MoCo().eval()
    state = network.state_dict()
    names = {name.rsplit(".", 1)[0] for name in state}
    # torchvision's resnet50 without its fc.
    assert len(names) == 2 * 53
    assert {"conv1", "bn1", "layer1.0.downsample.1", "layer4.2.conv3", "layer3.5.bn2"} <= names
    n_parameters = sum(p.numel() for p in MoCo().parameters())
    assert n_parameters == 25_557_032 - (2048 * 1000 + 1000)
    queries = {f"module.encoder_q.{name}": tensor for name, tensor in state.items()}
    heads = {f"module.encoder_q.fc.{i}.weight": torch.zeros(2, 2) for i in (0, 2)}
    others = {"module.queue": torch.zeros(2, 2), "module.encoder_k.conv1.weight": torch.zeros(1)}
    content = {"epoch": 800, "arch": "resnet50", "state_dict": queries | heads | others}
    torch.save(content, tmp_path / "moco.pth.tar")
    made = objective(moco=0.5, moco_weights=str(tmp_path / "moco.pth.tar"))
    a, b = parity.fill.image("lpips_a"), parity.fill.image("lpips_b")
    with torch.inference_mode():
        terms = made(a, b, latents)
        # Nearest pixels at 224, no normalisation, unit vectors.
        rows = (torch.arange(224) * (256 / 224)).long()
        x, y = (network(one[:, :, rows][:, :, :, rows])[0] for one in (a, b))
    cosine = (x @ y) / (x.norm() * y.norm())
    np.testing.assert_allclose(terms["moco"], 1 - cosine, atol=1e-6)
    assert 1e-4 < terms["moco"] < 1


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"lpips": 1.0}, "needs --lpips-weights: torchvision's alexnet"),
        ({"lpips": 1.0, "lpips_weights": "here"}, "needs --lpips-heads: the file of the same net"),
        ({"vgg": 1.0}, "needs --vgg-weights: torchvision's vgg16-397923af.pth"),
        ({"identity": 1.0}, r"needs --identity-model: model_ir_se50.pth \(ArcFace"),
        ({"moco": 1.0}, "needs --moco-weights: moco_v2_800ep_pretrain.pth.tar"),
        ({"features": 1.0}, "needs --discriminator: the discriminator of a StyleGAN2"),
        ({"moco": 1.0, "moco_weights": "gone"}, "no file at gone; --moco-weights takes moco_v2"),
    ],
)
def test_a_missing_file_is_named(settings, says, objective, tmp_path):
    if settings.get("lpips_weights"):
        torch.save({"x": torch.zeros(1)}, tmp_path / "here")
        settings = settings | {"lpips_weights": str(tmp_path / "here")}
    with pytest.raises(CheckpointError, match=says) as error:
        objective(**settings)
    assert "\n" not in str(error.value)


def test_a_foreign_file_is_no_moco(tmp_path):
    torch.save({"state_dict": {"module.encoder_k.conv1.weight": torch.zeros(1)}}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="is not a MoCo checkpoint; pass moco_v2_800ep"):
        moco.load_moco(tmp_path / "x.pt")


def test_every_weight_is_a_term():
    config = replace(LossConfig(), **dict.fromkeys(TERMS, 1.0))
    assert all(getattr(config, name) == 1.0 for name in TERMS)
    assert len(TERMS) == 14
