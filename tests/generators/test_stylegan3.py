"""StyleGAN3: the published numbers in every formulation, its layout, and what it may be asked for."""

import json
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from generators import StyleGAN3Config, StyleGAN3Generator, load_generator, lowpass
from generators.files import nvidia_stylegan3
from generators.precision import float32_products
from generators.stylegan3_layers import SynthesisLayer

CASES = ("stylegan3_t_128", "stylegan3_r_128")
FORMULATIONS = ("in_place", "fused", "reference")


def use(generator, formulation, monkeypatch):
    """Let a generator compute as on another device, or by the definition."""
    synthesis = generator.synthesis
    synthesis.reference = formulation == "reference"
    if formulation == "fused":
        weights = partial(synthesis.weights, for_compiler=True)
        monkeypatch.setattr(synthesis, "weights", weights)


def assert_drawn(image, expected, name, atol=1e-4):
    middle = slice(image.shape[-1] // 2 - 8, image.shape[-1] // 2 + 8)
    for part, found in (
        ("pooled", F.avg_pool2d(image, image.shape[-1] // 32)),
        ("patch", image[:, :, middle, middle]),
        ("corner", image[:, :, :8, -8:]),
    ):
        np.testing.assert_allclose(found, expected[f"{name}_{part}"], atol=atol, err_msg=name)


def spread(w):
    return w[:, None].expand(-1, 16, -1)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("formulation", FORMULATIONS)
@torch.inference_mode()
def test_reproduces_the_published_implementation(case, formulation, parity, monkeypatch):
    generator = load_generator(parity.folder / f"{case}.pkl")
    use(generator, formulation, monkeypatch)
    expected = np.load(parity.folder / f"{case}.npz")
    w, moved = torch.from_numpy(expected["w"]), torch.from_numpy(expected["transform_moved"])
    draw = generator.synthesis
    assert_drawn(draw(spread(w)), expected, "image")
    # A transform of each sample's own is what two calls with one each give.
    both = draw(spread(w[:1].expand(2, -1)), transform=torch.stack([torch.eye(3), moved]))
    assert_drawn(both[:1], {k: v[:1] for k, v in expected.items()}, "image")
    assert_drawn(both[1:], {k: v[:1] for k, v in expected.items()}, "moved")


@pytest.mark.parametrize("case", CASES)
@torch.inference_mode()
def test_styles_transforms_and_edits_are_the_published_ones(case, parity):
    generator = load_generator(parity.folder / f"{case}.pkl")
    expected = np.load(parity.folder / f"{case}.npz")
    z, draw = parity.fill.normal("z", (2, 64)), generator.synthesis
    w, cut = generator.mapping(z), generator.mapping(z, 0.5)
    np.testing.assert_allclose(w, expected["w"], atol=1e-5)
    np.testing.assert_allclose(torch.stack([cut, w], 1), expected["w_cutoff"], atol=1e-5)
    truncated = generator.mapping(z, 0.7)
    np.testing.assert_allclose(truncated, expected["w_truncated"], atol=1e-5)
    assert_drawn(draw(spread(truncated)), expected, "truncated")
    moved = torch.from_numpy(expected["transform_moved"])
    shrunk = torch.from_numpy(expected["transform_shrunk"])
    assert_drawn(draw(spread(w), transform=moved), expected, "moved")
    assert_drawn(draw(spread(w), transform=shrunk), expected, "shrunk")
    mixed = torch.cat([spread(w)[:, :6], spread(w.flip(0))[:, 6:]], dim=1)
    assert_drawn(draw(mixed), expected, "mixed")
    direction = parity.fill.normal("direction", (1, 64))
    direction = direction / direction.norm()
    assert_drawn(draw(spread(w[:1] + 0.75 * direction)), expected, "edited")
    image = draw(spread(w[:1] - direction), "none", moved)
    assert_drawn(image, expected, "edited_moved")


@pytest.mark.parametrize("case", CASES)
def test_tensors_are_those_of_the_averaged_network_to_the_bit(case, parity):
    generator = load_generator(parity.folder / f"{case}.pkl")
    salt = json.loads((parity.folder / f"{case}.json").read_text())["salt"]
    ours, names = generator.state_dict(), nvidia_stylegan3.names(generator.config)
    theirs = {key: ours[name] for key, name in names.items()}
    for key, tensor in parity.fill_sg3.fill_stylegan3(theirs, salt).items():
        assert torch.equal(theirs[key], tensor), key
    for layer, shape in zip(generator.synthesis.layers, generator.config.layers, strict=True):
        if not shape.is_colours:  # what a new network is given is what training had
            band = shape.target
            design = lowpass.jinc if shape.is_radial else lowpass.sinc
            taps = design(shape.down_taps, band.cutoff, band.half_width, shape.rate)
            torch.testing.assert_close(layer.down_filter, taps, atol=1e-7, rtol=0)


@pytest.fixture
def published_pt(parity, tmp_path):
    """stylegan3-editing's landscape generator at full size, as a .pt; and what it draws."""
    told = json.loads((parity.folder / "stylegan3_t_256_pt.json").read_text())
    expected = dict(np.load(parity.folder / "stylegan3_t_256_pt.npz"))
    shapes = {f"decoder.{key}": shape for key, shape in told["state_dict"].items()}
    filters = {f"decoder.{key}": value for key, value in expected.items()}
    state = parity.fill_sg3.from_shapes_sg3(shapes, filters)
    state = {key.removeprefix("decoder."): value for key, value in state.items()}
    state = parity.fill_sg3.fill_stylegan3(state, told["salt"])
    torch.save(state, tmp_path / "landscape.pt")
    return tmp_path / "landscape.pt", expected


@pytest.mark.slow
@torch.inference_mode()
def test_reproduces_a_published_pt_at_full_size(published_pt, parity):
    path, expected = published_pt
    generator = load_generator(path)
    assert generator.config == StyleGAN3Config.standard(256)
    w = generator.mapping(parity.fill.normal("z", (1, 512)))
    np.testing.assert_allclose(w, expected["w"], atol=1e-5)
    with float32_products():
        assert_drawn(generator.synthesis(spread(w)), expected, "image")


@torch.inference_mode()
def test_draws_what_a_published_encoder_found_at_1024_px(parity):
    """The rates and sizes of R at 1024 px with few channels, its transform left over from a batch."""
    told = json.loads((parity.folder / "restyle_psp_sg3.json").read_text())
    expected = dict(np.load(parity.folder / "restyle_psp_sg3.npz"))
    shapes = {key: s for key, s in told["state_dict"].items() if key.startswith("decoder.")}
    state = parity.fill_sg3.from_shapes_sg3(shapes, expected, told["salt"])
    state = {key.removeprefix("decoder."): value for key, value in state.items()}
    generator = nvidia_stylegan3.load_pt(state, "restyle_psp_sg3")
    w_plus = torch.from_numpy(expected["latents"][-1]).reshape(1, 16, 512)
    moved = torch.from_numpy(expected["landmarks_transform"]).reshape(1, 3, 3)
    for transform, name in ((None, ""), (moved, "unaligned_")):
        image = generator.synthesis(w_plus, transform=transform)
        pooled, patch = expected[f"{name}pooled"], expected[f"{name}patch"]
        found = F.avg_pool2d(image, 32)[0].numpy()
        np.testing.assert_allclose(found, pooled.reshape(-1, 3, 32, 32)[-1], atol=1e-4)
        found = image[0, :, 504:520, 504:520].numpy()
        np.testing.assert_allclose(found, patch.reshape(-1, 3, 16, 16)[-1], atol=1e-4)


def test_layers_are_the_published_ones(parity):
    layouts = json.loads((parity.folder / "stylegan3_published_layouts.json").read_text())
    for name, layout in layouts["configurations"].items():
        told = layout["init_kwargs"]
        config = StyleGAN3Config.standard(
            told["img_resolution"],
            name[0].upper(),
            told["channel_base"],
            told["channel_max"],
        )
        found = [
            {
                "name": nvidia_stylegan3.layer_name(i, layer),
                "in_out": [layer.n_in, layer.n_out],
                "kernel": layer.kernel,
                "sizes": [layer.source.size, layer.target.size],
                "rates": [layer.source.rate, layer.rate, layer.target.rate],
                "up_down": [layer.up, layer.down],
                "taps": [layer.up_taps, layer.down_taps],
                "radial": layer.is_radial,
                "padding": [*layer.padding, *layer.padding],
            }
            for i, layer in enumerate(config.layers)
        ]
        wanted = [{key: row[key] for key in found[0]} for row in layout["layers"]]
        assert found == wanted, name
        with torch.device("meta"):
            n = sum(p.numel() for p in StyleGAN3Generator(config).parameters())
        assert n == layout["parameters"], name


@pytest.fixture
def tiny():
    """A StyleGAN3 of 32 px and configuration R, so that both kinds of filter are in it."""
    torch.manual_seed(0)
    config = StyleGAN3Config.standard(32, "R", 64, 6, z_dim=8, w_dim=8)
    generator = StyleGAN3Generator(config).requires_grad_(False)
    for name, buffer in generator.named_buffers():
        if name.endswith("magnitude_ema"):
            buffer.uniform_(0.5, 1.5)
    return generator


def latents(n):
    return torch.randn(n, 16, 8, generator=torch.Generator().manual_seed(1))


def test_a_new_network_draws_what_varies(tiny):
    images = tiny(torch.randn(4, 8))
    assert images.shape == (4, 3, 32, 32)
    assert 0.01 < images.std() < 10
    assert (images[0] - images[1]).abs().max() > 0.01


def test_an_image_alone_equals_itself_in_a_batch(tiny):
    w_plus = latents(3)
    assert torch.equal(tiny.synthesis(w_plus)[1:2], tiny.synthesis(w_plus[1:2]))


@pytest.mark.parametrize("formulation", ["in_place", "fused"])
def test_gradients_are_those_of_the_definition(formulation, tiny, monkeypatch):
    gradients = []
    for way in ("reference", formulation):
        use(tiny, way, monkeypatch)
        w_plus = latents(2).requires_grad_()
        tiny.synthesis.requires_grad_(True).zero_grad()
        tiny.synthesis(w_plus).square().mean().backward()
        gradients.append([w_plus.grad, *(p.grad.clone() for p in tiny.synthesis.parameters())])
    for exact, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found, exact, atol=1e-5 * exact.abs().max().item(), rtol=1e-4)


@pytest.mark.parametrize(("precision", "decibels"), [("bf16", 25), ("fp16", 45)])
@pytest.mark.parametrize("formulation", ["in_place", "fused"])
def test_half_precision_images_are_near(precision, decibels, formulation, tiny, monkeypatch):
    w_plus = latents(2)
    exact = tiny.synthesis(w_plus)
    use(tiny.at(precision), formulation, monkeypatch)
    image = tiny.synthesis(w_plus)
    assert image.dtype == torch.float32
    error = (image - exact).square().mean()
    assert 0 < error < exact.square().mean() * 10 ** (-decibels / 10)


def test_sums_of_a_wide_layer_stay_within_half_precision():
    layer = SynthesisLayer(StyleGAN3Config.standard(16, "R").layers[0], 8, clamp=256.0)
    layer.requires_grad_(False).weight.abs_()
    x = torch.full((1, 1024, 36, 36), 200.0, dtype=torch.float16)
    maps = layer(x, torch.ones(1, 1024), layer.weights("fused", torch.float16))
    assert maps.isfinite().all()
    assert maps.max() > 200


def test_what_a_compiler_is_given_is_one_graph(tiny):
    weights = tiny.synthesis.weights(torch.float32, for_compiler=True)
    w_plus = latents(2)
    explained = torch._dynamo.explain(tiny.synthesis.draw)(w_plus, "const", weights)
    assert explained.graph_count == 1, explained.break_reasons


def test_wrong_arguments_are_named(tiny):
    w_plus = latents(2)
    with pytest.raises(ValueError, match=r"w_plus must be \[N, 16, 8\], not \[2, 15, 8\]"):
        tiny.synthesis(w_plus[:, 1:])
    with pytest.raises(ValueError, match=r"\[3, 3\] or \[2, 3, 3\], not \[3, 3, 3\]"):
        tiny.synthesis(w_plus, transform=torch.eye(3).expand(3, 3, 3))
    with pytest.raises(ValueError, match='noise must be "const"'):
        tiny.synthesis(w_plus, "some")
    with pytest.raises(ValueError, match="precision must be one of"):
        tiny.at("int8")
    for changed, says in (
        ({"resolution": 48}, "power of two from 16"),
        ({"channels": (4,) * 13}, "13 channel counts for 14 layers"),
        ({"resolution": 4096, "channels": (8000,) * 14}, "a feature map of 135,5.* numbers, more"),
        ({"kernel": 5}, "kernel must be 1 or 3"),
        ({"radial": 1}, "radial must be true or false"),
        ({"output_scale": 0}, "output_scale must be a number above 0"),
        ({"w_dim": 10**9}, "w_dim must be a whole number"),
    ):
        with pytest.raises(ValueError, match=says):
            StyleGAN3Config(**({"resolution": 32, "channels": (4,) * 14} | changed))
