"""``restyle train`` as a user runs it: shards in, a model out that inverts, whatever comes between."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from encoders import load_inverter
from jobs.cli import main
from pipeline.faces.images import decode
from pipeline.shards.reader import samples

# A network that learns in seconds what the demo's needs an hour for: where in the picture what is.
SMALL = "--widths 16,24,32,48 --n-levels 1 --n-steps 2 --ramp 0"
N_BATCHES = 60


def restyle(arguments, cwd, check=True):
    found = subprocess.run(
        [sys.executable, "-m", "jobs", *arguments.split()],
        cwd=cwd,
        capture_output=True,
        text=True,
    )
    assert not check or found.returncode == 0, found.stderr[-3000:]
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with 512 portraits in four shards."""
    folder = tmp_path_factory.mktemp("train")
    restyle("portraits portraits/%d.tar --count 512 --size 64 --seed 7 --samples 128", folder)
    return folder


def validations(out):
    entries = map(json.loads, (out / "log.jsonl").read_text().splitlines())
    return [entry for entry in entries if entry["kind"] == "validation"]


def inverted(folder, out):
    """Mean error after the last step, of a shard inverted with a trained model."""
    restyle(
        f"invert portraits/3.tar --model {out}/best.safetensors --out {out}-latents --steps 2 "
        "--align none --metrics mse",
        folder,
    )
    table = pq.read_table(folder / f"{out}-latents")
    assert table["status"].to_pylist() == ["ok"] * 128
    return sum(errors[-1] for errors in table["mse"].to_pylist()) / 128


@pytest.mark.slow
def test_an_encoder_learns_from_nothing_and_inverts_a_shard(folder):
    restyle(
        f"train encoder portraits/*.tar --out one {SMALL} --batch-size 8 --n-batches {N_BATCHES} "
        f"--validate-every {N_BATCHES // 4} --n-held-out 32",
        folder,
    )
    found = validations(folder / "one")
    assert len(found) == 4
    assert found[-1]["mse/step2"] < 0.7 * found[0]["mse/step2"]
    assert found[-1]["mse/step2"] < found[-1]["mse/step1"]
    # The held-out shard was the last one, so inversion measures what validation did.
    assert inverted(folder, "one") == pytest.approx(found[-1]["mse/step2"], rel=0.25)


@pytest.mark.slow
def test_two_workers_learn_together(folder):
    """Each takes half a batch; what they saved together inverts as well as they said."""
    restyle(
        f"train encoder portraits/*.tar --out two {SMALL} --batch-size 8 --n-batches 24 "
        "--validate-every 12 --n-held-out 32 --workers 2",
        folder,
    )
    found = validations(folder / "two")
    assert len(found) == 2
    assert found[-1]["mse/step2"] < found[0]["mse/step2"]
    model = load_inverter(folder / "two" / "best.safetensors")
    images = [decode(s.image) for s in islice(samples(str(folder / "portraits/3.tar")), 32)]
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 127.5 - 1
    drawn = model.invert(pixels, n_steps=2).images
    mean = (drawn - pixels).square().mean().item()
    assert mean == pytest.approx(found[-1]["mse/step2"], rel=0.25)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="kills by process group")
def test_killed_without_warning_it_goes_on_to_the_same_bytes(folder):
    command = (
        f"train encoder portraits/0.tar portraits/1.tar {SMALL} --batch-size 4 --n-batches 24 "
        "--checkpoint-every 5 --validate-every 12 --n-held-out 8 --log-every 5 --chunk 50 --out "
    )
    restyle(command + "whole", folder)
    job = subprocess.Popen(
        [sys.executable, "-m", "jobs", *(command + "parts").split()],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    state, wanted = folder / "parts" / "state.pt", time.monotonic() + 120
    while not state.exists():
        assert job.poll() is None
        assert time.monotonic() < wanted
        time.sleep(0.01)
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()
    assert len(validations(folder / "parts")) < 2  # it had not come to the end
    restyle(command + "parts", folder)
    for name in ("last", "best"):
        one, two = (folder / f / f"{name}.safetensors" for f in ("whole", "parts"))
        # The note in the header holds the command, which names the folder.
        assert one.read_bytes().replace(b"whole", b"parts") == two.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("encoder portraits/0.tar --out x --held-out-share 1", "must be below 1"),
        ("distil --out x --render --held-out-share 0.1", "--held-out-share and --align"),
        ("encoder nothing/*.tar --out x", "no shard matches"),
        (
            "encoder portraits/*.tar --out x --preset unet-adversarial --widths 8,8,8,8",
            "--vgg-weights",
        ),
        ("encoder portraits/*.tar --out x --preset restyle-psp", "pass `unet`"),
        ("encoder portraits/*.tar --out x --encoder ResNet", "encoder must be one of"),
        ("encoder portraits/*.tar --out x --generator no.pkl", "no checkpoint at no.pkl"),
        ("encoder portraits/*.tar --out x --widths 16,a", "numbers with commas between them"),
        pytest.param(
            "encoder portraits/*.tar --out x --workers 64",
            "64 workers need 64 CPUs",
            marks=pytest.mark.ray,
        ),
        ("distil portraits/*.tar --out x --start-from no.safetensors", "no checkpoint"),
        ("generator portraits/*.tar --out x --resolution 48", "power of two"),
        ("distil portraits/*.tar --out x --batch-size 10", "in groups of 4"),
        ("distil portraits/*.tar --out x --n-direct 0", "n_direct must be between"),
        ("distil portraits/*.tar --out x --precision fp16", "fp32 or bf16"),
        ("distil portraits/*.tar --out x --start-from demo --resolution 32", "draws 64 px"),
        ("distil --out x", "name the SHARDS to train on, or pass --render"),
        ("distil portraits/*.tar --out x --render", "leave out SHARDS"),
        ("distil --out x --render --z-dim 40", "pass --z-dim 76"),
        ("encoder portraits/*.tar --out x --bound -1", "above 0"),
        ("encoder portraits/*.tar --out s3://bucket/x", "writes to a local folder"),
        ("encoder portraits/*.tar --out x --held-out portraits/*.tar", "every shard is held out"),
        ("encoder portraits/*.tar --out x --log-every 0", "not in the range"),
        ("portraits p.tar --count 2001", "must hold one number"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(folder, arguments, sentence, monkeypatch, capsys):
    command = arguments if arguments.startswith("portraits") else f"train {arguments}"
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["restyle", *command.split()])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert sentence in " ".join(capsys.readouterr().err.split())
