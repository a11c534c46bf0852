import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from generators import Generator, GeneratorConfig
from generators.files import checkpoint, rosinality


@pytest.fixture(scope="module")
def published(parity):
    """StyleGAN2 256 with the parity weights, converted from the rosinality key names."""
    shapes = json.loads((parity.folder / "generator256.json").read_text())
    state = parity.fill.from_shapes({f"decoder.{key}": shape for key, shape in shapes.items()})
    state = {key.removeprefix("decoder."): value for key, value in state.items()}
    config, tensors = rosinality.convert(state, "generator256")
    generator = Generator(config)
    checkpoint.load_strict(generator, tensors, "generator256")
    return generator.requires_grad_(False)


@pytest.mark.slow
@pytest.mark.parametrize("reference", [False, True])
def test_reproduces_the_published_implementation(published, parity, reference, monkeypatch):
    monkeypatch.setattr(published.synthesis, "reference", reference)
    expected = np.load(parity.folder / "generator256.npz")
    w = published.mapping(parity.fill.normal("z", (2, 512)))
    np.testing.assert_allclose(w, expected["w"], atol=1e-4)
    mean = published.mapping(parity.fill.normal("z_mean", (64, 512))).mean(0, keepdim=True)
    np.testing.assert_allclose(mean, expected["mean"], atol=1e-4)

    image = published.synthesis(w[:, None].expand(-1, 14, -1))
    np.testing.assert_allclose(F.avg_pool2d(image, 8), expected["pooled"], atol=1e-3)
    np.testing.assert_allclose(image[:, :, 120:136, 120:136], expected["patch"], atol=1e-3)

    published.latent_avg.copy_(mean[0])
    image = published(parity.fill.normal("z", (2, 512)), truncation=0.7)
    np.testing.assert_allclose(F.avg_pool2d(image, 8), expected["pooled_truncated"], atol=1e-3)


def test_an_image_alone_equals_itself_in_a_batch(tiny_generator):
    w_plus = torch.randn(3, tiny_generator.n_styles, tiny_generator.w_dim)
    together = tiny_generator.synthesis(w_plus)
    for i in range(3):
        alone = tiny_generator.synthesis(w_plus[i : i + 1])
        torch.testing.assert_close(alone[0], together[i], atol=1e-5, rtol=1e-5)


def test_noise_const_repeats_random_varies_none_is_silent(tiny_generator):
    for conv in tiny_generator.synthesis.convs:
        conv.noise_strength.fill_(0.5)
    w_plus = torch.randn(1, tiny_generator.n_styles, tiny_generator.w_dim)
    const = tiny_generator.synthesis(w_plus)
    assert torch.equal(const, tiny_generator.synthesis(w_plus, noise="const"))
    first = tiny_generator.synthesis(w_plus, noise="random")
    assert not torch.equal(first, tiny_generator.synthesis(w_plus, noise="random"))
    silent = tiny_generator.synthesis(w_plus, noise="none")
    for conv in tiny_generator.synthesis.convs:
        conv.noise_strength.fill_(0)
    torch.testing.assert_close(silent, tiny_generator.synthesis(w_plus))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_images_are_within_40_db(tiny_generator, dtype):
    w = tiny_generator.mapping(torch.randn(4, tiny_generator.config.z_dim))
    w_plus = w[:, None].expand(-1, tiny_generator.n_styles, -1)
    full = tiny_generator.synthesis(w_plus)
    tiny_generator.synthesis.compute_dtype = dtype
    half = tiny_generator.synthesis(w_plus)
    assert half.dtype == torch.float32
    error = (half - full).square().mean() / full.std().square()
    assert -10 * torch.log10(error) > 40


def test_truncation_pulls_to_the_average(tiny_generator):
    z = torch.randn(5, tiny_generator.config.z_dim)
    tiny_generator.latent_avg.normal_()
    w, none = tiny_generator.mapping(z), tiny_generator.mapping(z, truncation=0.0)
    half = tiny_generator.mapping(z, truncation=0.5)
    torch.testing.assert_close(none, tiny_generator.latent_avg.expand(5, -1))
    torch.testing.assert_close(half, (w + none) / 2)


def test_wrong_arguments_are_named(tiny_generator):
    with pytest.raises(ValueError, match=r"w_plus must be \[N, 8, 16\], not \[2, 3, 16\]"):
        tiny_generator.synthesis(torch.zeros(2, 3, 16))
    with pytest.raises(ValueError, match="noise must be"):
        tiny_generator.synthesis(torch.zeros(1, 8, 16), noise="loud")
    with pytest.raises(ValueError, match=r"z must be \[N, 16\]"):
        tiny_generator.mapping(torch.zeros(16))


def test_config_rejects_what_cannot_be_built():
    with pytest.raises(ValueError, match="power of two"):
        GeneratorConfig(resolution=48, channels=(8, 8, 8, 8))
    with pytest.raises(ValueError, match="3 channel counts for 4 resolutions"):
        GeneratorConfig(resolution=32, channels=(8, 8, 8))


def test_standard_widths_are_the_published_ones():
    assert GeneratorConfig.standard(1024).channels == (512, 512, 512, 512, 512, 256, 128, 64, 32)
    assert GeneratorConfig.standard(1024).n_styles == 18


@pytest.mark.parametrize("doubling", ["transposed", "polyphase"])
@pytest.mark.parametrize("architecture", ["skip", "resnet", "orig"])
def test_what_a_gpu_computes_equals_the_reference(architecture, doubling, monkeypatch):
    config = GeneratorConfig(32, (12, 12, 8, 6), z_dim=16, w_dim=16, architecture=architecture)
    synthesis = Generator(config).requires_grad_(False).synthesis
    for conv in synthesis.convs:
        conv.noise_strength.fill_(0.3)
    monkeypatch.setattr(type(synthesis), "upsampling", lambda *_: doubling)
    for n in (1, 3):
        w_plus = torch.randn(n, synthesis.n_styles, synthesis.w_dim)
        weights = synthesis.weights(torch.float32, for_compiler=True)
        fused = synthesis.draw(w_plus, "const", weights)
        monkeypatch.setattr(synthesis, "reference", True)
        torch.testing.assert_close(fused, synthesis(w_plus), atol=1e-5, rtol=1e-5)
        monkeypatch.setattr(synthesis, "reference", False)


@pytest.mark.slow
@pytest.mark.parametrize("doubling", ["transposed", "polyphase"])
def test_what_a_compiler_is_given_is_one_graph(tiny_generator, doubling, monkeypatch):
    synthesis = tiny_generator.requires_grad_(False).synthesis
    monkeypatch.setattr(type(synthesis), "upsampling", lambda *_: doubling)
    weights = synthesis.weights(torch.float32, for_compiler=True)
    w_plus = torch.randn(2, synthesis.n_styles, synthesis.w_dim)
    traced = torch.compile(synthesis.draw, fullgraph=True, dynamic=False, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(
            traced(w_plus, "const", weights), synthesis.draw(w_plus, "const", weights)
        )
    torch.compiler.reset()
