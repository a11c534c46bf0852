"""Files: what is written comes back, and what is broken or hostile ends in one sentence."""

import argparse
import json
import os

import pytest
import torch
from safetensors.torch import save_file

from generators import CheckpointError, checkpoint, load_generator, save_generator


def rosinality_state(generator):
    """The tensors of one of our generators under rosinality's names and shapes."""
    from generators.rosinality import _names

    ours, state = generator.state_dict(), {}
    for theirs, name in _names(generator.config).items():
        value = ours[name]
        if theirs.endswith(("conv.weight", "noise.weight")):
            value = value[None]
        elif "to_rgb" in theirs and theirs.endswith("bias") and "modulation" not in theirs:
            value = value.reshape(1, 3, 1, 1)
        state[theirs] = value.clone()
    state["convs.0.conv.blur.kernel"] = torch.zeros(4, 4)
    return state


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
    torch.save({"g_ema": rosinality_state(tiny_generator), "latent_avg": avg}, tmp_path / "g.pt")
    again = load_generator(tmp_path / "g.pt")
    z = torch.randn(2, 16)
    assert torch.equal(again(z), tiny_generator(z))
    assert torch.equal(again.latent_avg, avg)


def test_a_missing_average_is_computed_from_a_fixed_seed_and_said(tiny_generator, tmp_path):
    content = {"g_ema": rosinality_state(tiny_generator), "args": argparse.Namespace(size=32)}
    torch.save(content, tmp_path / "g.pt")
    with pytest.warns(UserWarning, match="no latent_avg"):
        first = load_generator(tmp_path / "g.pt")
    with pytest.warns(UserWarning, match="no latent_avg"):
        second = load_generator(tmp_path / "g.pt")
    assert first.latent_avg.abs().sum() > 0
    assert torch.equal(first.latent_avg, second.latent_avg)


def test_missing_and_unexpected_tensors_are_named(tiny_generator, tmp_path):
    state = rosinality_state(tiny_generator)
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


class Hostile:
    def __reduce__(self):
        return os.system, ("touch hostile_was_here",)


def test_a_hostile_pickle_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"g_ema": Hostile()}, "g.pt")
    with pytest.raises(CheckpointError, match="refused") as error:
        load_generator("g.pt")
    assert "weights_only" not in str(error.value)
    assert not os.path.exists("hostile_was_here")


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
        "odd.bin": "none of .safetensors, .pt and .pkl",
        "other.pt": "not a rosinality StyleGAN2 generator",
        "encoder.pt": "encoder file",
        "foreign.safetensors": "not of this project",
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
