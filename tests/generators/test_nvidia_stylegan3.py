"""StyleGAN3 in files: NVIDIA's pickles, stylegan3-editing's .pt, ours; and refusals that say why."""

import numpy as np
import nvidia_files
import pytest
import torch

from generators import (
    CheckpointError,
    StyleGAN3Config,
    StyleGAN3Generator,
    conversion,
    load_generator,
    load_stylegan2,
)
from generators.files import checkpoint, nvidia, nvidia_stylegan3

VARIANTS = {
    "R": {"variant": "R"},
    "T": {"variant": "T"},
    "unbounded": {"conv_clamp": None, "output_scale": 0.5, "mapping_lr_mul": 1.0},
    "labels": {"c_dim": 3, "w_dim": 12, "mapping_width": 10, "n_mapping_layers": 3},
}


def make(variant="T", **others):
    """A small generator whose every tensor has an effect."""
    torch.manual_seed(0)
    config = StyleGAN3Config.standard(32, variant, 64, 6, **({"z_dim": 8, "w_dim": 8} | others))
    generator = StyleGAN3Generator(config).requires_grad_(False)
    for tensor in generator.state_dict().values():
        tensor.add_(torch.rand(tensor.shape) * 0.1)
    return generator


def same(first, second):
    assert first.config == second.config
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name
    z = torch.randn(2, 8)
    labels = torch.eye(3)[:2] if first.c_dim else None
    images = [g(z, truncation=0.7, labels=labels) for g in (first, second)]
    assert torch.equal(*images)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_is_read_and_kept_as_what_it_is(name, tmp_path):
    generator = make(**VARIANTS[name])
    root = nvidia_files.network3(generator)
    nvidia_files.dump({"G": None, "G_ema": root, "augment_pipe": None}, tmp_path / "g.pkl")
    same(load_generator(tmp_path / "g.pkl"), generator)
    conversion.convert_generator(tmp_path / "g.pkl", tmp_path / "g.safetensors")
    same(load_generator(tmp_path / "g.safetensors"), generator)
    header = checkpoint.read_header(tmp_path / "g.safetensors")
    assert header.format_version == 3
    assert header.config["network"] == "stylegan3"
    if name == "unbounded":
        with pytest.raises(CheckpointError, match=r"conv_clamp is None, not 256.*output_scale is"):
            conversion.convert_generator(tmp_path / "g.safetensors", tmp_path / "g.pt")
    else:
        conversion.convert_generator(tmp_path / "g.safetensors", tmp_path / "g.pt")
        same(load_generator(tmp_path / "g.pt"), generator)


def test_a_transform_left_in_a_pt_is_no_part_of_the_generator(tmp_path):
    generator = make()
    state = nvidia_stylegan3.export(generator)
    state["synthesis.input.transform"] = torch.rand(2, 3, 3)
    torch.save(state, tmp_path / "g.pt")
    generator.synthesis.input.transform.copy_(torch.eye(3))
    same(load_generator(tmp_path / "g.pt"), generator)


def test_a_pt_that_is_not_whole_is_refused_with_names(tmp_path):
    path = tmp_path / "g.pt"
    whole = nvidia_stylegan3.export(make())
    names = list(whole)
    for without, more, says in (
        ("synthesis.input.phases", {}, "missing synthesis.input.phases"),
        ("mapping.w_avg", {}, "no tensor 'mapping.w_avg'"),
        ("synthesis.L3_36_6.weight", {}, "14 layers in its synthesis"),
        (None, {"synthesis.x": torch.zeros(1)}, "unexpected synthesis.x"),
        (None, {"mapping.fc0.bias": 3}, "mapping.fc0.bias is not a named tensor"),
        (None, {"synthesis.input.freqs": torch.zeros(3, 2)}, r"freqs has shape \[3, 2\]"),
        (None, {"synthesis.L14_32_3.weight": torch.zeros(())}, "colours|shape"),
        (None, {"mapping.fc0.weight": torch.zeros(())}, "not a StyleGAN3"),
    ):
        state = {name: whole[name] for name in names if name != without} | more
        torch.save(state, path)
        with pytest.raises(CheckpointError, match=says):
            load_generator(path)


def test_layers_of_another_rule_are_refused_with_their_names(tmp_path):
    path = tmp_path / "g.pkl"
    layer, first, nested = "synthesis.L3_36_6", "synthesis.input", []
    for _ in range(300):
        nested = [nested]
    for where, changed, says in (
        (layer, {"padding": [1, 2, 1, 2]}, "L3_36_6 has other padding .*: 1, 2, 1, 2, not "),
        (layer, {"padding": np.zeros(10**4)}, "where a few numbers must be"),
        (layer, {"up_factor": 4}, "other factors"),
        (layer, {"up_factor": nested}, "other factors .*: a list, 2, not"),
        (layer, {"is_torgb": True}, "other colours"),
        (layer, {"conv_clamp": 3}, "different values of conv_clamp"),
        (layer, {"_parameters": {}}, "14 layers"),
        (layer, {"_buffers": {"up_filter": torch.ones(12)}}, "missing .*magnitude_ema"),
        (first, {"size": np.array([40, 40])}, "other rate, bandwidth and size .*40, 40, not"),
        (first, {"size": "36"}, "a str where a few numbers must be"),
        ("synthesis", {"output_scale": "x"}, "not a StyleGAN3 network"),
    ):
        root = nvidia_files.network3(make())
        nvidia_files.module_at(root, where).state |= changed
        nvidia_files.dump({"G_ema": root}, path)
        with pytest.raises(CheckpointError, match=says):
            load_generator(path)
    root = nvidia_files.network3(make())
    root.state |= {"img_resolution": 64}
    nvidia_files.dump({"G_ema": root}, path)
    with pytest.raises(CheckpointError, match="it says img_resolution 64, but its tensors 32"):
        load_generator(path)


def test_describing_reads_no_tensor(parity):
    config, stored = nvidia.describe(parity.folder / "stylegan3_r_128.pkl")
    assert config.variant == "R"
    assert stored["synthesis.layers.0.down_filter"].shape == (12, 12)


def test_where_no_stylegan3_fits_a_sentence_says_so(tmp_path, tiny_inverter):
    from encoders import load_inverter, published

    torch.save(nvidia_stylegan3.export(make()), tmp_path / "g.pt")
    for load in (load_stylegan2, lambda path: load_inverter(tiny_inverter, generator=path)):
        with pytest.raises(CheckpointError, match=r"of StyleGAN3 \(StyleGAN3-T\), which this"):
            load(tmp_path / "g.pt")
    decoder = {f"decoder.{name}": value for name, value in nvidia_stylegan3.export(make()).items()}
    content = {"state_dict": decoder, "opts": {"encoder_type": "BackboneEncoder"}}
    with pytest.raises(CheckpointError, match="an encoder for StyleGAN3"):
        published.describe(content, "e.pt")
