"""The commands as a user types them: help, errors in one sentence, and what they print."""

import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner

from benchmarks.chaos.processes import command_lines
from jobs.cli import cli, main

COMMANDS = sorted(cli.commands)


@pytest.fixture
def restyle(tmp_path, monkeypatch, capsys):
    """Run a command in an empty folder as the shell does, but in this process, where torch is loaded."""
    monkeypatch.chdir(tmp_path)
    handler = signal.getsignal(signal.SIGTERM)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["restyle", *map(str, words)])
        status = 0
        try:
            main()
        except SystemExit as stop:
            status = stop.code
        return SimpleNamespace(status=status, **capsys.readouterr()._asdict())

    yield run
    signal.signal(signal.SIGTERM, handler)


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
        f"{metrics} identity --identity-model odd.pt": "is not a plain state dict",
        f"{metrics} mse --lpips-heads x.pth": "--lpips-heads is for lpips; add lpips to --metrics",
        "s.tar --out out --then nope.pt": "no checkpoint at nope.pt",
        "s.tar --out out --model single.safetensors": "has one step, not 5; pass --steps 1",
        "s.tar --out out --then single.safetensors": "the second model sees no reconstruction",
        "absent.tar --out out": "no shard matches absent.tar",
        "s.tar --out out --model nope.pt": "no checkpoint at nope.pt",
        "s.tar --out out --model odd.pt": "the known types are",
        "s.tar --out out --model broken.safetensors": "not a readable safetensors file",
        "s.tar --out out --metrics mse,lpisp": "unknown metric 'lpisp'",
        "s.tar --out file/out": "cannot",
        "s.tar --out out --batch-size 100000000": "at most",
        "s.tar --out out --gpus-per-actor 1": "there is none here",
        "s.tar --out out --gpus-per-actor 1.5": "must be a whole number above 1",
        "{0..1.tar --out out": "braces",
        "s.tar --out out --video-gap 3": "--video-gap is for the frames of clips; add --video",
        "s.tar --out out --video --latent-window 4": "--latent-window must be an odd number",
    }


def test_errors_are_one_sentence_with_status_2_before_workers_start(
    restyle, tmp_path, shard, tiny_inverter, make_inverter, monkeypatch
):
    from pipeline.engine import run

    make_inverter(in_channels=3).rename("single.safetensors")

    def nobody(*_):
        raise AssertionError("workers were started")

    monkeypatch.setattr(run, "_workers", nobody)
    for arguments, says in failing_runs(tmp_path).items():
        words = arguments.split()
        if "--model" not in words:
            words += ["--model", tiny_inverter]
        result = restyle("invert", *words)
        assert result.status == 2, arguments
        assert says in result.err, arguments
        assert result.err.count("\n") == 1, arguments


def test_a_generator_of_another_shape_is_refused(
    restyle, tmp_path, shard, tiny_inverter, tiny_generator
):
    from generators import save_generator

    save_generator(tmp_path / "other.safetensors", tiny_generator)
    result = restyle(
        "invert", shard, "--out", "out", "--model", tiny_inverter,
        "--generator", "other.safetensors"
    )  # fmt: skip
    assert result.status == 2
    assert "use the generator that the encoder was trained with" in result.err


def test_an_unreachable_cluster_is_said(restyle, shard, tiny_inverter):
    result = restyle(
        "invert", shard, "--out", "out", "--model", tiny_inverter, "--align", "none",
        "--address", "127.0.0.1:1",
    )  # fmt: skip
    assert result.status == 2, result.err
    assert "no Ray cluster answers at 127.0.0.1:1" in result.err


# Ray finds a cluster for "auto" among all processes that it sees: here it sees its own alone.
ALONE = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]


def test_without_a_cluster_auto_finds_none(shard, tiny_inverter, tmp_path):
    words = ["invert", shard, "--out", "out", "--model", str(tiny_inverter), "--align", "none"]
    command = [sys.executable, "-m", "jobs", *words, "--address", "auto"]
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    environment |= {"PYTHONPATH": os.pathsep.join(sys.path), "RAY_TMPDIR": str(tmp_path)}
    try:
        subprocess.run([*ALONE, "true"], check=True, capture_output=True)
        command = [*ALONE, *command]
    except (OSError, subprocess.CalledProcessError):
        if any(b"gcs_server" in line for line in command_lines()):
            pytest.skip("auto would join the Ray cluster that runs on this machine")
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 2, result.stderr
    assert "no Ray cluster answers at auto" in result.stderr


def test_dry_run_writes_nothing(restyle, tmp_path, shard, tiny_inverter):
    result = restyle("invert", shard, "--out", "out", "--model", tiny_inverter, "--dry-run")
    assert result.status == 0, result.err
    assert "1 shard, 1 to do" in result.out
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("steps", ["0", "-1", "1001", "many"])
def test_steps_are_a_number_or_auto(restyle, steps):
    result = restyle("invert", "s.tar", "--out", "out", "--dry-run", "--steps", steps)
    assert result.status == 2
    assert f"auto or a whole number from 1 to 1000, not {steps}" in result.err


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (
            "--steps auto --latents all",
            "--latents all needs the same number of steps for every row",
        ),
        ("--steps auto --then demo", "--steps auto is for one model"),
        ("--init random --then demo", "--init random is for one model"),
        ("--refine-near 0.1", "--refine-near is for refinement; add --refine fast"),
        ("--refine fast --refine-lpips 1", "--refine-lpips needs lpips and its files"),
        ("--refine fast --refine-identity 1", "pass --identity-model"),
        ("--refine soon", "fast, best or a whole number from 0 to 10000, not soon"),
        ("--refine-near nan --refine 5", "is too large, or not a number"),
    ],
)
def test_choices_that_do_not_fit_are_refused(restyle, flags, says):
    result = restyle("invert", "s.tar", "--out", "out", "--dry-run", *flags.split())
    assert result.status == 2
    assert says in result.err


def test_what_may_be_chosen_decides_the_run(restyle, shard, tiny_inverter):
    words = (
        "invert",
        shard,
        "--out",
        "out",
        "--model",
        tiny_inverter,
        "--align",
        "none",
        "--dry-run",
    )
    for flags in ("--steps auto", "--refine fast", "--init random", "--refine 3 --refine-near 0.1"):
        result = restyle(*words, *flags.split())
        assert result.status == 0, result.err
        assert "1 shard, 1 to do" in result.out


@pytest.mark.parametrize("size", ["0", "many", "-1", "2.5"])
def test_a_batch_size_is_a_number_or_auto(restyle, shard, tiny_inverter, size):
    words = ("invert", shard, "--out", "out", "--model", tiny_inverter, "--dry-run", "--batch-size")
    assert restyle(*words, "auto").status == restyle(*words, "3").status == 0
    result = restyle(*words, size)
    assert result.status == 2
    assert f"auto, or a whole number of at least 1, not {size}" in result.err


def test_the_demo_model_is_said_to_draw_portraits_only(restyle, shard, tiny_inverter, tmp_path):
    restyle("portraits", "p/%d.tar", "--count", "2", "--size", "32")
    words = ("--out", "out", "--dry-run", "--model")
    note = "the demo model only draws rendered portraits"
    assert note in restyle("invert", shard, *words, "demo").err
    assert note not in restyle("invert", shard, *words, tiny_inverter).err
    assert note not in restyle("invert", "p/0.tar", *words, "demo").err


def test_pack_keeps_paths_as_keys_and_says_what_it_left_out(restyle, tmp_path, photo):
    from pipeline.shards import reader

    photos = tmp_path / "photos"
    (photos / "sub").mkdir(parents=True)
    for name in ("b.png", "a.png", "sub/a.png", "x.y.png", "x_y.png"):
        (photos / name).write_bytes(photo())
    (photos / "notes.txt").write_text("not a photo")
    (photos / "sub" / "a.json").write_text('{"smile": 1}')
    for _ in range(2):
        result = restyle("pack", "photos", "shards/%06d.tar", "--samples", "2")
    assert result.status == 0, result.err
    assert "5 photos in 3 shards" in result.out
    assert "notes.txt" in result.out
    assert "x_y.png has the key x_y_png" in result.out
    shards = [f"{tmp_path}/shards/{i:06}.tar" for i in range(3)]
    found = [s for url in shards for s in reader.samples(url, frozenset({"json", "txt"}))]
    assert [s.key for s in found] == ["a", "b", "sub/a", "x_y", "x_y_png"]
    assert [s.fields for s in found] == [{}, {}, {"json": b'{"smile": 1}'}, {}, {}]
    assert "a.json" not in result.out
    first = (tmp_path / "shards" / "000000.tar").read_bytes()
    restyle("pack", "photos", "again/%06d.tar", "--samples", "2")
    assert (tmp_path / "again" / "000000.tar").read_bytes() == first


@pytest.mark.parametrize(
    "arguments", ["absent x.tar", "empty x.tar", "photos x.tgz", "photos %s%d.tar"]
)
def test_pack_errors(restyle, tmp_path, photo, arguments):
    (tmp_path / "empty").mkdir()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(photo())
    result = restyle("pack", *arguments.split())
    assert result.status == 2


@pytest.mark.parametrize("command", ["status", "verify"])
def test_status_and_verify_of_a_folder_without_a_run(restyle, tmp_path, command):
    result = restyle(command, tmp_path)
    assert result.status == 2
    assert "contains no run" in result.err


def test_inspect(restyle, tiny_inverter, tmp_path):
    result = restyle("inspect", tiny_inverter)
    assert "kind            inverter" in result.out
    assert "UNet" in result.out
    (tmp_path / "x.pt").write_bytes(b"junk")
    result = restyle("inspect", tmp_path / "x.pt")
    assert result.status == 2
