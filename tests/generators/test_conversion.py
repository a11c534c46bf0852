"""Converted files: the same images to the bit, one identity, and rosinality's own names on the way back."""

import json

import nvidia_files
import pytest
import torch

from generators import CheckpointError, conversion, load_generator
from generators.files import checkpoint, rosinality


def same(first, second):
    assert first.config == second.config
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name
    z = torch.randn(2, first.config.z_dim)
    assert torch.equal(first(z, truncation=0.7), second(z, truncation=0.7))


@pytest.fixture
def files(tiny_generator, tmp_path):
    """One generator as an NVIDIA and as a rosinality file."""
    tiny_generator.latent_avg.normal_()
    nvidia_files.write(tiny_generator, tmp_path / "g.pkl")
    torch.save(rosinality.export(tiny_generator), tmp_path / "g.pt")
    return tmp_path


@pytest.mark.parametrize("name", ["g.pkl", "g.pt"])
def test_there_and_back_is_the_same_to_the_bit(name, files, tiny_generator):
    conversion.convert_generator(files / name, files / "ours.safetensors")
    same(load_generator(files / "ours.safetensors"), tiny_generator)
    conversion.convert_generator(files / "ours.safetensors", files / "back.pt")
    same(load_generator(files / "back.pt"), tiny_generator)
    header = checkpoint.read_header(files / "ours.safetensors")
    assert header.source_sha256 == checkpoint.file_sha256(files / name)
    assert header.notes == f"converted from {name}"


def test_copies_have_one_identity(files):
    hashes = set()
    for i, name in enumerate(("g.pkl", "g.pt", "g.pt")):
        conversion.convert_generator(files / name, files / f"{i}.safetensors")
        generator = load_generator(files / f"{i}.safetensors")
        hashes.add(checkpoint.tensors_sha256(generator.state_dict()))
    assert len(hashes) == 1


def test_a_second_conversion_keeps_where_it_is_from(files):
    conversion.convert_generator(files / "g.pt", files / "1.safetensors")
    conversion.convert_generator(files / "1.safetensors", files / "2.safetensors")
    assert (files / "1.safetensors").read_bytes() == (files / "2.safetensors").read_bytes()


def test_exported_names_and_shapes_are_those_of_rosinality(parity):
    from generators import Generator, GeneratorConfig

    published = json.loads((parity.folder / "generator256.json").read_text())
    with torch.device("meta"):
        generator = Generator(GeneratorConfig.standard(256))
    state = rosinality.export(generator)["g_ema"]
    assert {key: list(tensor.shape) for key, tensor in state.items()} == published
    kernels = {key for key in state if key.endswith("kernel")}
    expected = parity.fill.from_shapes({f"decoder.{key}": [4, 4] for key in kernels})
    for key in kernels:
        assert torch.equal(state[key], expected[f"decoder.{key}"])


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"conv_clamp": 256.0}, r"conv_clamp 256\)"),
        ({"architecture": "orig"}, '"orig", not "skip"'),
        ({"architecture": "resnet"}, '"resnet", not "skip"'),
        ({"z_dim": 8}, "different widths"),
        ({"mapping_width": 8}, "different widths"),
        ({"mapping_lr_mul": 1.0}, "multiplier 1"),
    ],
)
def test_what_rosinality_cannot_be_is_refused(changed, says, tiny_generator, tmp_path):
    from dataclasses import replace

    from generators import Generator, save_generator

    generator = Generator(replace(tiny_generator.config, **changed))
    save_generator(tmp_path / "g.safetensors", generator)
    with pytest.raises(CheckpointError, match=says):
        conversion.convert_generator(tmp_path / "g.safetensors", tmp_path / "g.pt")
    assert not (tmp_path / "g.pt").exists()


def test_kinds_and_outputs(files):
    torch.save({"state_dict": {}, "opts": {}}, files / "e.pt")
    assert conversion.kind_of(files / "e.pt") == "inverter"
    assert conversion.kind_of(files / "g.pt") == conversion.kind_of(files / "g.pkl") == "generator"
    with pytest.raises(CheckpointError, match=r"written as \.safetensors or \.pt"):
        conversion.convert_generator(files / "g.pt", files / "out.pkl")
    with pytest.raises(CheckpointError, match="no folder"):
        conversion.convert_generator(files / "g.pt", files / "nowhere" / "out.pt")
    assert {path.name for path in files.iterdir()} == {"g.pkl", "g.pt", "e.pt"}


@pytest.mark.parametrize("wrap", ["module.{}", "{}", "first"])
def test_the_prefix_of_data_parallel_is_taken_off(files, tiny_generator, wrap):
    """torch.save of a wrapped network puts `module.` in front of every name, or inside, of a wrapped part."""
    content = torch.load(files / "g.pt", weights_only=True)
    if wrap == "first":
        names = {key: key.replace(".", ".module.", 1) for key in content["g_ema"]}
    else:
        names = {key: wrap.format(key) for key in content["g_ema"]}
    content["g_ema"] = {names[key]: tensor for key, tensor in content["g_ema"].items()}
    torch.save(content, files / "wrapped.pt")
    same(load_generator(files / "wrapped.pt"), tiny_generator)


def test_a_module_saved_whole_is_refused_with_a_way_out(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "whole.pt")
    with pytest.raises(CheckpointError, match=r"if you made it, .*pickle\.dump\(\{'G_ema'"):
        load_generator(tmp_path / "whole.pt")
