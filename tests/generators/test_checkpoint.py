"""Files: what is written comes back, and what is broken or hostile ends in one sentence."""

import argparse
import collections
import json
import os
import subprocess
import sys
from pathlib import Path

import memory
import nvidia_files
import pytest
import torch
from safetensors.torch import save_file

from generators import CheckpointError, Generator, GeneratorConfig, load_generator, save_generator
from generators.files import checkpoint, rosinality

DATA = Path(__file__).parent.parent / "data"


def test_safetensors_round_trip(tiny_generator, tmp_path):
    tiny_generator.latent_avg.normal_()
    save_generator(tmp_path / "g.safetensors", tiny_generator, notes="tiny")
    again = load_generator(tmp_path / "g.safetensors")
    assert again.config == tiny_generator.config
    for name, tensor in tiny_generator.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    assert checkpoint.read_header(tmp_path / "g.safetensors").notes == "tiny"
    assert os.listdir(tmp_path) == ["g.safetensors"]


def test_rosinality_file_gives_the_same_images(tiny_generator, tmp_path):
    avg = torch.randn(16)
    torch.save(
        {"g_ema": rosinality.export(tiny_generator)["g_ema"], "latent_avg": avg}, tmp_path / "g.pt"
    )
    again = load_generator(tmp_path / "g.pt")
    z = torch.randn(2, 16)
    assert torch.equal(again(z), tiny_generator(z))
    assert torch.equal(again.latent_avg, avg)


def test_what_is_loaded_is_not_tied_to_the_file(tiny_generator, tmp_path):
    """An overwritten file changes no weight, and a deleted one ends no job."""
    save_generator(tmp_path / "g.safetensors", tiny_generator)
    torch.save(rosinality.export(tiny_generator), tmp_path / "g.pt")
    loaded = [load_generator(path) for path in (tmp_path / "g.safetensors", tmp_path / "g.pt")]
    for path in list(tmp_path.iterdir()):
        path.write_bytes(b"x")  # the same file on disk, cut to a byte
    for generator in loaded:
        for name, tensor in tiny_generator.state_dict().items():
            assert torch.equal(generator.state_dict()[name], tensor), name


@pytest.mark.parametrize("zipped", [True, False])
def test_what_training_programs_write_is_read(zipped, tiny_generator, tmp_path):
    """A module's own state dict (ordered, with notes), an optimizer's, settings, a counter."""
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    content = {
        **rosinality.export(tiny_generator),
        "d": layer.state_dict(),
        "d_optim": optimizer.state_dict(),
        "args": argparse.Namespace(size=32, mix=(0.5, "w")),
        "seen": collections.Counter("aab"),
        "shape": torch.Size([1, 2]),
        "dtype": torch.float16,
        "device": torch.device("cpu"),
        "tied": [layer.weight, layer.weight.t()],
    }
    torch.save(content, tmp_path / "g.pt", _use_new_zipfile_serialization=zipped)
    load_generator(tmp_path / "g.pt")
    again = checkpoint.load_pt(tmp_path / "g.pt")
    assert torch.equal(again["d"]["weight"], layer.weight)
    assert again["args"].mix == (0.5, "w")
    assert again["seen"]["a"] == 2


@pytest.mark.parametrize("kind", ["safetensors", "pt", "old.pt", "pkl"])
def test_loading_takes_little_more_memory_than_the_tensors(kind, tmp_path):
    config = GeneratorConfig(resolution=16, channels=(512, 512, 512))
    generator = Generator(config).requires_grad_(False)
    path = tmp_path / f"g.{kind}"
    if kind == "pkl":
        nvidia_files.write(generator, path)
    elif kind == "safetensors":
        save_generator(path, generator)
    else:
        content = rosinality.export(generator)
        torch.save(content, path, _use_new_zipfile_serialization=kind == "pt")
    size = sum(tensor.nbytes for tensor in generator.state_dict().values())
    with memory.peak() as used:
        load_generator(path)
    assert used() < 1.3 * size


@pytest.mark.slow
def test_loading_does_not_load_the_compiler_of_torch():
    code = "import sys, generators; generators.load_generator(sys.argv[1]); print(*sys.modules)"
    path = DATA / "parity" / "stylegan2_ada_64.pkl"
    out = subprocess.run([sys.executable, "-c", code, path], capture_output=True, check=True)
    assert b"torch._dynamo" not in out.stdout.split()


def test_a_half_precision_file_is_loaded_as_float32(tiny_generator, tmp_path):
    halves = {name: t.half() for name, t in tiny_generator.state_dict().items()}
    header = checkpoint.Header("generator", tiny_generator.config.to_dict())
    checkpoint.save(tmp_path / "g.safetensors", header, halves)
    assert load_generator(tmp_path / "g.safetensors").synthesis.const.dtype == torch.float32


def test_a_strict_load_fits_dtype_and_device_and_takes_the_rest_as_it_is(tiny_generator):
    tensors = {name: t.clone() for name, t in tiny_generator.state_dict().items()}
    tensors["synthesis.const"] = tensors["synthesis.const"].double()
    checkpoint.load_strict(tiny_generator, tensors, "here")
    assert tiny_generator.synthesis.const.dtype == torch.float32
    bias = tiny_generator.synthesis.convs[0].bias
    assert bias.data_ptr() == tensors["synthesis.convs.0.bias"].data_ptr()
    assert isinstance(bias, torch.nn.Parameter)


def test_a_missing_average_is_computed_from_a_fixed_seed_and_said(tiny_generator, tmp_path):
    content = {
        "g_ema": rosinality.export(tiny_generator)["g_ema"],
        "args": argparse.Namespace(size=32),
    }
    torch.save(content, tmp_path / "g.pt")
    with pytest.warns(UserWarning, match="no latent_avg"):
        first = load_generator(tmp_path / "g.pt")
    with pytest.warns(UserWarning, match="no latent_avg"):
        second = load_generator(tmp_path / "g.pt")
    assert first.latent_avg.abs().sum() > 0
    assert torch.equal(first.latent_avg, second.latent_avg)


def test_missing_and_unexpected_tensors_are_named(tiny_generator, tmp_path):
    state = rosinality.export(tiny_generator)["g_ema"]
    state["extra.weight"] = state.pop("convs.1.activate.bias")
    torch.save({"g_ema": state}, tmp_path / "g.pt")
    with pytest.raises(CheckpointError, match=r"missing convs\.1\.activate\.bias.*extra\.weight"):
        load_generator(tmp_path / "g.pt")


def test_a_misshapen_tensor_is_named(tiny_generator, tmp_path):
    tensors = tiny_generator.state_dict()
    tensors["synthesis.const"] = torch.zeros(1, 16, 4, 5)
    header = checkpoint.Header("generator", tiny_generator.config.to_dict())
    checkpoint.save(tmp_path / "g.safetensors", header, tensors)
    with pytest.raises(CheckpointError, match=r"synthesis\.const has shape \[1, 16, 4, 5\], needs"):
        load_generator(tmp_path / "g.safetensors")


def test_broken_files_end_in_one_sentence(tiny_generator, tmp_path):
    save_generator(tmp_path / "g.safetensors", tiny_generator)
    whole = (tmp_path / "g.safetensors").read_bytes()
    (tmp_path / "short.safetensors").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "text.pt").write_text("not a checkpoint")
    (tmp_path / "odd.bin").write_bytes(b"x")
    torch.save({"g_ema": {"w": torch.zeros(2)}}, tmp_path / "other.pt")
    torch.save({"state_dict": {}, "opts": {}}, tmp_path / "encoder.pt")
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    record = {"kind": "generator", "config": {}, "format_version": 99}
    save_file(
        {"a": torch.zeros(1)},
        tmp_path / "newer.safetensors",
        metadata={checkpoint.METADATA_KEY: json.dumps(record)},
    )
    for name, says in {
        "short.safetensors": "truncated",
        "empty.pt": "not a readable torch file",
        "text.pt": "refused|not a readable",
        "odd.bin": "not a generator file by its name",
        "other.pt": "not a rosinality StyleGAN2 generator",
        "encoder.pt": "encoder file",
        "foreign.safetensors": "not from this project",
        "newer.safetensors": "upgrade restyle-batch",
        "absent.pt": "no checkpoint at",
    }.items():
        with pytest.raises(CheckpointError, match=says) as error:
            load_generator(tmp_path / name)
        assert "\n" not in str(error.value)


def test_identity_is_of_the_tensors_not_of_the_file(tiny_generator, tmp_path):
    state = tiny_generator.state_dict()
    backwards = dict(reversed(state.items()))
    assert checkpoint.tensors_sha256(state) == checkpoint.tensors_sha256(backwards)
    state["synthesis.const"] = state["synthesis.const"] + 1e-3
    assert checkpoint.tensors_sha256(state) != checkpoint.tensors_sha256(backwards)
