"""NVIDIA's pickles: the published numbers, every variant of the network, and refusals that say why."""

import math

import numpy as np
import nvidia_files
import pytest
import torch
import torch.nn.functional as F

from generators import CheckpointError, Generator, GeneratorConfig, load_generator, ops
from generators.files import nvidia

VARIANTS = {
    "clamp": {"conv_clamp": 0.7},
    "orig": {"architecture": "orig"},
    "resnet": {"architecture": "resnet", "conv_clamp": 0.7},
    "w_dim": {"w_dim": 24},
    "mapping_width": {"w_dim": 24, "mapping_width": 10, "n_mapping_layers": 3},
    "lr_multiplier": {"mapping_lr_mul": 1.0},
}


def make(**changed):
    """A small generator whose every tensor has an effect."""
    torch.manual_seed(0)
    shape = {"resolution": 16, "channels": (12, 8, 6), "z_dim": 16, "w_dim": 16}
    generator = Generator(GeneratorConfig(**(shape | {"n_mapping_layers": 2} | changed)))
    for name, parameter in generator.named_parameters():
        if name.endswith(("bias", "noise_strength")):
            torch.nn.init.normal_(parameter, mean=float("affine.bias" in name), std=0.3)
    generator.latent_avg.normal_()
    return generator.requires_grad_(False)


@pytest.mark.parametrize("reference", [False, True])
def test_reproduces_the_published_implementation(parity, reference):
    generator = load_generator(parity.folder / "stylegan2_ada_64.pkl")
    generator.synthesis.reference = reference
    expected = np.load(parity.folder / "stylegan2_ada_64.npz")
    z = parity.fill.normal("z", (2, 64))
    for truncation, name in ((1.0, "w"), (0.7, "w_truncated")):
        w_plus = generator.mapping(z, truncation)[:, None].expand(-1, generator.n_styles, -1)
        np.testing.assert_allclose(w_plus, expected[name], atol=1e-5)
    w_plus = torch.from_numpy(expected["w"])
    image = generator.synthesis(w_plus)
    np.testing.assert_allclose(F.avg_pool2d(image, 2), expected["pooled"], atol=1e-4)
    np.testing.assert_allclose(image[:, :, 24:40, 24:40], expected["patch"], atol=1e-4)
    silent = F.avg_pool2d(generator.synthesis(w_plus, noise="none"), 2)
    np.testing.assert_allclose(silent, expected["pooled_without_noise"], atol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_is_read_as_what_it_is(variant, tmp_path):
    generator = make(**VARIANTS[variant])
    nvidia_files.write(generator, tmp_path / "g.pkl")
    again = load_generator(tmp_path / "g.pkl")
    assert again.config == generator.config
    for name, tensor in generator.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    z = torch.randn(2, 16)
    assert torch.equal(again(z), generator(z))


def layer(x, w, state, up, gain=1.0, clamp=math.inf):
    """SynthesisLayer of the published code, written down from its definition, in float64."""
    style = w @ state["affine.weight"].T / math.sqrt(w.shape[1]) + state["affine.bias"]
    weights = ops.modulate_weight(state["weight"], style, demodulate=True)
    x = torch.cat([one_layer(x[i : i + 1], weights[i], up) for i in range(len(x))])
    x = x + state["noise"] * state["noise_strength"] + state["bias"][:, None, None]
    return (F.leaky_relu(x, 0.2) * math.sqrt(2) * gain).clamp(-clamp * gain, clamp * gain)


def one_layer(x, weight, up):
    if not up:
        return F.conv2d(x, weight, padding=1)
    taps = ops.fir_kernel(x.dtype, x.device, gain=4.0)
    return ops.upfirdn2d(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2), taps, 1, (1, 1))


def published_synthesis(generator, w_plus):
    """SynthesisNetwork of the published code with its three architectures."""
    config, state = generator.config, generator.synthesis.state_dict()
    state = {name: tensor.double() for name, tensor in state.items()}
    ws, clamp = w_plus.double().unbind(1), config.conv_clamp or math.inf
    residual = config.architecture == "resnet"

    def of(prefix):
        return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}

    x = state["const"].expand(len(w_plus), -1, -1, -1)
    x = layer(x, ws[0], of("convs.0."), up=False, clamp=clamp)
    image = None
    for level in range(config.n_blocks):
        if level:
            before, i = x, 2 * level
            gain = math.sqrt(0.5) if residual else 1.0
            x = layer(x, ws[i - 1], of(f"convs.{i - 1}."), up=True, clamp=clamp)
            x = layer(x, ws[i], of(f"convs.{i}."), up=False, gain=gain, clamp=clamp)
            if residual:
                weight = state[f"skips.{level - 1}.weight"] / math.sqrt(before.shape[1])
                x = x + ops.upsample2d(F.conv2d(before, weight), reference=True) * math.sqrt(0.5)
        image = None if image is None else ops.upsample2d(image, reference=True)
        if config.architecture == "skip" or level == config.n_blocks - 1:
            rgb = of(f"to_rgbs.{level if config.architecture == 'skip' else 0}.")
            style = ws[2 * level + 1] @ rgb["affine.weight"].T / math.sqrt(config.w_dim)
            scale = (style + rgb["affine.bias"]) / math.sqrt(x.shape[1])
            y = torch.einsum("oi,ni,nihw->nohw", rgb["weight"][:, :, 0, 0], scale, x)
            y = (y + rgb["bias"][:, None, None]).clamp(-clamp, clamp)
            image = y if image is None else image + y
    return image


@pytest.mark.parametrize("architecture", ["skip", "orig", "resnet"])
@pytest.mark.parametrize("clamp", [None, 0.7])
@pytest.mark.parametrize("reference", [False, True])
def test_computes_what_the_published_definition_says(architecture, clamp, reference):
    generator = make(architecture=architecture, conv_clamp=clamp)
    generator.synthesis.reference = reference
    w_plus = torch.randn(3, generator.n_styles, 16)
    expected = published_synthesis(generator, w_plus)
    if clamp and architecture != "skip":
        assert (expected.abs() == clamp).float().mean() > 0.01, "the bound is reached"
    torch.testing.assert_close(generator.synthesis(w_plus).double(), expected, atol=1e-5, rtol=1e-5)


def test_gradients_pass_a_bounded_generator():
    generator = make(conv_clamp=0.7)
    w_plus = torch.randn(2, generator.n_styles, 16, requires_grad=True)
    generator.synthesis(w_plus).square().sum().backward()
    assert w_plus.grad.abs().sum() > 0


def test_networks_that_cannot_be_drawn_are_refused_with_the_reason(tmp_path):
    path = tmp_path / "g.pkl"
    for changed, says in (
        ({"c_dim": 10}, r"missing mapping\.embed\.weight"),
        ({"img_channels": 1}, "1 image channels"),
        ({"img_resolution": 32}, "synthesis.b32"),
        ({"img_resolution": 10**30}, "not a StyleGAN2 network"),
    ):
        nvidia_files.write(make(), path, **changed)
        with pytest.raises(CheckpointError, match=says):
            load_generator(path)


def test_layers_that_differ_are_refused_with_their_names(tmp_path):
    path = tmp_path / "g.pkl"
    for where, changed, says in (
        ("synthesis.b8.conv0", {"activation": "relu"}, "synthesis.b8.conv0 with activation 'relu'"),
        ("synthesis.b8.conv0", {"use_noise": False}, "use_noise False"),
        ("synthesis.b8.conv0", {"conv_clamp": 3}, "different values of conv_clamp"),
        ("synthesis.b8", {"architecture": "orig"}, "different values of architecture"),
        ("synthesis.b8", {"_buffers": {"resample_filter": torch.ones(4, 4)}}, r"not the filter"),
        ("synthesis.b8.conv1", {"_parameters": {}}, "b8.conv1.weight"),
        ("synthesis.b8", {"_parameters": {"x": torch.ones(1)}}, r"unexpected synthesis\.b8\.x"),
        (
            "synthesis.b8.torgb",
            {"_parameters": {"bias": torch.ones(3)}},
            r"missing .*torgb\.weight",
        ),
    ):
        root = nvidia_files.network(make())
        nvidia_files.module_at(root, where).state |= changed
        nvidia_files.dump({"G_ema": root}, path)
        with pytest.raises(CheckpointError, match=says):
            load_generator(path)


def test_other_pickles_are_refused_with_what_they_are(tmp_path):
    path = tmp_path / "g.pkl"
    path.write_bytes(b"\x80\x02cdnnlib.tflib.network\nNetwork\n.")
    with pytest.raises(CheckpointError, match=r"TensorFlow network; convert it with legacy\.py"):
        load_generator(path)
    nvidia_files.dump({"D": None}, path)
    with pytest.raises(CheckpointError, match="no network G_ema"):
        load_generator(path)


def test_half_precision_weights_are_read_as_float32(tmp_path):
    generator = make()
    root = nvidia_files.network(generator)
    parameters = nvidia_files.module_at(root, "synthesis.b8.conv0").state["_parameters"]
    parameters["weight"] = parameters["weight"].half().contiguous(memory_format=torch.channels_last)
    nvidia_files.dump({"G_ema": root}, tmp_path / "g.pkl")
    weight = load_generator(tmp_path / "g.pkl").synthesis.convs[1].weight
    assert weight.dtype == torch.float32
    torch.testing.assert_close(weight, generator.synthesis.convs[1].weight, atol=2e-3, rtol=1e-3)


def test_describing_reads_no_tensor(tmp_path):
    generator = make()
    nvidia_files.write(generator, tmp_path / "g.pkl")
    config, stored = nvidia.describe(tmp_path / "g.pkl")
    assert config == generator.config
    assert stored["synthesis.const"].shape == (12, 4, 4)
