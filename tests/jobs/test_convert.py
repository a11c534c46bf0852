"""``restyle convert`` and ``restyle inspect`` on files of every kind."""

import warnings

import pytest
import torch
from click.testing import CliRunner

from encoders import inverter_file, load_inverter
from generators import CheckpointError, load_generator
from generators.files import rosinality
from jobs.cli import cli


def restyle(*arguments):
    result = CliRunner().invoke(cli, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_an_nvidia_file(parity, tmp_path):
    path = parity.folder / "stylegan2_ada_64.pkl"
    facts = restyle("inspect", path)
    for fact in ("NVIDIA StyleGAN2-ADA", "64x64 px", "10 of 64", "conv_clamp      256", "sha256"):
        assert fact in facts
    assert "written" in restyle("convert", path, tmp_path / "g.safetensors")
    w_plus = torch.randn(1, 10, 64)
    images = [load_generator(p).synthesis(w_plus) for p in (path, tmp_path / "g.safetensors")]
    assert torch.equal(*images)
    facts = restyle("inspect", tmp_path / "g.safetensors")
    assert "converted from stylegan2_ada_64.pkl" in facts
    assert (tmp_path / "g.safetensors").stat().st_size < path.stat().st_size
    with pytest.raises(CheckpointError, match="cannot be a rosinality file: .*conv_clamp 256"):
        restyle("convert", tmp_path / "g.safetensors", tmp_path / "g.pt")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (
            "stylegan3_r_128",
            ("NVIDIA StyleGAN3-R", "128x128 px", "16 of 64", "train encoder 'shards/*.tar' --gen"),
        ),
        (
            "stylegan2_ada_64_conditional",
            ("NVIDIA StyleGAN2-ADA", "labels          5 entries", "an encoder that was trained"),
        ),
    ],
)
def test_nvidia_generators_of_other_kinds(name, told, parity, tmp_path):
    path = parity.folder / f"{name}.pkl"
    for file in (path, tmp_path / "g.safetensors"):
        facts = restyle("inspect", file)
        for fact in (*told[1:], "sha256"):
            assert fact in facts
        assert ("restyle train" in facts) == ("no encoder takes" not in facts)
        if file == path:
            assert told[0] in facts
            restyle("convert", path, tmp_path / "g.safetensors")
    tensors = [load_generator(file).state_dict() for file in (path, tmp_path / "g.safetensors")]
    assert all(torch.equal(tensor, tensors[1][key]) for key, tensor in tensors[0].items())


def test_a_stylegan3_as_a_pt_is_named(parity, tmp_path):
    path = parity.folder / "stylegan3_t_128.pkl"
    restyle("convert", path, tmp_path / "g.pt")
    facts = restyle("inspect", tmp_path / "g.pt")
    assert "generator (stylegan3-editing, StyleGAN3-T)" in facts


def test_a_rosinality_file_there_and_back(tiny_generator, tmp_path):
    torch.save(rosinality.export(tiny_generator), tmp_path / "g.pt")
    restyle("convert", tmp_path / "g.pt", tmp_path / "g.safetensors")
    restyle("convert", tmp_path / "g.safetensors", tmp_path / "back.pt")
    z = torch.randn(1, 16)
    for name in ("g.safetensors", "back.pt"):
        assert torch.equal(load_generator(tmp_path / name)(z), tiny_generator(z))
    assert "generator (rosinality)" in restyle("inspect", tmp_path / "back.pt")


@pytest.mark.parametrize("by_name", [False, True])
def test_an_inverter(by_name, tiny_inverter, tmp_path, monkeypatch):
    monkeypatch.setattr(inverter_file, "demo_path", lambda: tiny_inverter)
    restyle("convert", "demo" if by_name else tiny_inverter, tmp_path / "copy.safetensors")
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    first, second = (load_inverter(p) for p in (tiny_inverter, tmp_path / "copy.safetensors"))
    results = [model.invert(images, n_steps=2) for model in (first, second)]
    assert torch.equal(results[0].latents, results[1].latents)
    assert torch.equal(results[0].images, results[1].images)
    with pytest.raises(CheckpointError, match=r"an encoder can be written as \.safetensors"):
        restyle("convert", tiny_inverter, tmp_path / "e.pt")


def test_a_warning_of_a_file_is_passed_on(tiny_generator, tmp_path):
    torch.save({"g_ema": rosinality.export(tiny_generator)["g_ema"]}, tmp_path / "g.pt")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        restyle("convert", tmp_path / "g.pt", tmp_path / "g.safetensors")
    assert any("no latent_avg" in str(w.message) for w in caught)
    assert "latent average  yes" in restyle("inspect", tmp_path / "g.safetensors")
