"""The commands as a user types them: help, errors in one sentence, and what they print."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from benchmarks.chaos.processes import command_lines
from jobs.cli import cli

COMMANDS = sorted(cli.commands)


def restyle(*arguments, cwd=None, env=None):
    return subprocess.run(
        [sys.executable, "-m", "jobs", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **(env or {})},
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_an_example(command):
    result = CliRunner().invoke(cli, [command, "--help"])
    assert result.exit_code == 0
    assert f"Example: restyle {command} " in result.output


@pytest.fixture
def shard(tmp_path, write_tar, photo):
    return write_tar(tmp_path / "s.tar", [("a.png", photo())])


def failing_runs(tmp_path):
    """Arguments of `invert`, and what the error must say."""
    torch.save({"state_dict": {}, "opts": {"encoder_type": "Nope"}}, tmp_path / "odd.pt")
    (tmp_path / "broken.safetensors").write_bytes(b"\x10" * 100)
    (tmp_path / "file").touch()
    metrics = "s.tar --out out --metrics"
    return {
        f"{metrics} lpips": "this metric needs --lpips-weights: torchvision's alexnet",
        f"{metrics} lpips --lpips-weights no.pth": "no file at no.pth; --lpips-weights takes",
        f"{metrics} lpips --lpips-weights s.tar": "this metric needs --lpips-heads: the file of",
        f"{metrics} lpips --lpips-weights s.tar --lpips-heads s.tar": "not a readable torch file",
        f"{metrics} identity --identity-model no.pth": "takes model_ir_se50.pth (ArcFace",
        f"{metrics} identity --identity-model odd.pt": "is no plain state dict",
        f"{metrics} mse --lpips-heads x.pth": "--lpips-heads is for lpips; add lpips to --metrics",
        "s.tar --out out --then nope.pt": "no checkpoint at nope.pt",
        "s.tar --out out --model single.safetensors": "has one step, not 5; pass --steps 1",
        "s.tar --out out --then single.safetensors": "the second model sees no reconstruction",
        "absent.tar --out out": "no shard matches absent.tar",
        "s.tar --out out --model nope.pt": "no checkpoint at nope.pt",
        "s.tar --out out --model odd.pt": "the types known are",
        "s.tar --out out --model broken.safetensors": "not a readable safetensors file",
        "s.tar --out out --metrics mse,lpisp": "unknown metric 'lpisp'",
        "s.tar --out file/out": "cannot",
        "s.tar --out out --batch-size 100000000": "at most",
        "s.tar --out out --steps 0": "--steps must be at least 1",
        "s.tar --out out --gpus-per-actor 1": "there is none here",
        "s.tar --out out --gpus-per-actor 1.5": "must be whole above 1",
        "{0..1.tar --out out": "braces",
    }


def test_errors_are_one_sentence_with_status_2_before_ray_starts(
    tmp_path, shard, tiny_inverter, make_inverter, monkeypatch
):
    from jobs import cli as module

    monkeypatch.chdir(tmp_path)
    make_inverter(in_channels=3).rename("single.safetensors")
    import ray

    def no_ray(*_, **__):
        raise AssertionError("Ray was started")

    monkeypatch.setattr(ray, "init", no_ray)
    for arguments, says in failing_runs(tmp_path).items():
        words = arguments.split()
        if "--model" not in words:
            words += ["--model", str(tiny_inverter)]
        monkeypatch.setattr(sys, "argv", ["restyle", "invert", *words])
        printed = []
        monkeypatch.setattr(
            module.click, "echo", lambda text="", err=False, to=printed: to.append(text)
        )
        with pytest.raises(SystemExit) as stop:
            module.main()
        assert stop.value.code == 2, arguments
        assert len(printed) == 1, arguments
        assert says in printed[0], arguments
        assert "\n" not in printed[0].strip()


def test_a_generator_of_another_shape_is_refused(tmp_path, shard, tiny_inverter, tiny_generator):
    from generators import save_generator

    save_generator(tmp_path / "other.safetensors", tiny_generator)
    result = restyle(
        "invert", shard, "--out", "out", "--model", tiny_inverter,
        "--generator", "other.safetensors", cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 2
    assert "use the generator that the encoder was trained with" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("address", ["127.0.0.1:1", "auto"])
def test_an_unreachable_cluster_is_said(tmp_path, shard, tiny_inverter, address):
    if address == "auto" and any(b"gcs_server" in line for line in command_lines()):
        pytest.skip("auto would join the Ray cluster that runs on this machine")
    result = restyle(
        "invert", shard, "--out", "out", "--model", tiny_inverter, "--align", "none",
        "--address", address, cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 2, result.stderr
    assert f"no Ray cluster answers at {address}" in result.stderr


def test_an_unfinished_shard_is_listed_and_the_status_is_1(
    tmp_path, shard, tiny_inverter, write_tar
):
    (tmp_path / "cut.tar").write_bytes(Path(shard).read_bytes()[:700])
    result = restyle(
        "invert", "s.tar", "cut.tar", "--out", "out", "--model", tiny_inverter, "--align", "none",
        "--metrics", "", cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 1, result.stderr
    assert "1 shards, 1 samples, 1 rows (1 ok)" in result.stdout
    assert "cut.tar is not a whole tar file" in result.stderr
    assert "1 shards are unfinished" in result.stderr
    verify = restyle("verify", "out", cwd=tmp_path)
    assert verify.returncode == 1
    assert "cut.tar has no file" in verify.stdout


def test_dry_run_writes_nothing(tmp_path, shard, tiny_inverter):
    result = restyle(
        "invert", shard, "--out", "out", "--model", tiny_inverter, "--dry-run", cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    assert "1 shards, 1 to do" in result.stdout
    assert not (tmp_path / "out").exists()


def test_pack_keeps_paths_as_keys_and_says_what_it_left_out(tmp_path, photo):
    from pipeline import reader

    photos = tmp_path / "photos"
    (photos / "sub").mkdir(parents=True)
    for name in ("b.png", "a.png", "sub/a.png", "x.y.png", "x_y.png"):
        (photos / name).write_bytes(photo())
    (photos / "notes.txt").write_text("no photo")
    for _ in range(2):
        result = restyle("pack", "photos", "shards/%06d.tar", "--samples", "2", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "5 photos in 3 shards" in result.stdout
    assert "notes.txt" in result.stdout
    assert "x_y.png has the key x_y_png" in result.stdout
    keys = [s.key for i in range(3) for s in reader.samples(f"{tmp_path}/shards/{i:06}.tar")]
    assert keys == ["a", "b", "sub/a", "x_y", "x_y_png"]
    first = (tmp_path / "shards" / "000000.tar").read_bytes()
    restyle("pack", "photos", "again/%06d.tar", "--samples", "2", cwd=tmp_path)
    assert (tmp_path / "again" / "000000.tar").read_bytes() == first


@pytest.mark.parametrize(
    "arguments", ["absent x.tar", "empty x.tar", "photos x.tgz", "photos %s%d.tar"]
)
def test_pack_errors(tmp_path, photo, arguments):
    (tmp_path / "empty").mkdir()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(photo())
    result = restyle("pack", *arguments.split(), cwd=tmp_path)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", ["status", "verify"])
def test_status_and_verify_of_a_folder_without_a_run(tmp_path, command):
    result = restyle(command, tmp_path)
    assert result.returncode == 2
    assert "holds no run" in result.stderr


def test_inspect(tiny_inverter, tmp_path):
    result = restyle("inspect", tiny_inverter)
    assert "kind            inverter" in result.stdout
    assert "UNet" in result.stdout
    (tmp_path / "x.pt").write_bytes(b"junk")
    result = restyle("inspect", tmp_path / "x.pt")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
