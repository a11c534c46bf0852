"""`ray job submit` to a real head with its dashboard, where nobody enters without the token."""

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

from benchmarks.chaos.processes import descendants, kill
from pipeline import LatentDataset

BIN = Path(sys.executable).parent


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture
def head(tmp_path):
    """A head as `ray start` makes it: address of its dashboard, and the environment of a user of it."""
    environment = {
        **os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0",
    }  # fmt: skip
    port = free_port()
    with (tmp_path / "head.log").open("w") as log:
        words = "start --head --block --num-cpus 2 --port 0 --include-dashboard true "
        words += f"--dashboard-port {port} --dashboard-agent-listen-port {free_port()}"
        process = subprocess.Popen(
            [BIN / "ray", *words.split()], env=environment, stdout=log, stderr=log
        )
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 90
    while not answers(address):
        assert process.poll() is None, (tmp_path / "head.log").read_text()
        assert time.monotonic() < deadline, (tmp_path / "head.log").read_text()
        time.sleep(0.2)
    yield address, environment
    below = descendants(process.pid)
    process.send_signal(signal.SIGTERM)
    process.wait(60)
    kill(below)


def answers(address):
    try:
        return urlopen(f"{address}/api/version", timeout=5).status == 200
    except OSError as error:
        return getattr(error, "code", None) in (401, 403)  # it is there, and asks for the token


def ray_job(address, environment, *words, cwd=None):
    command = [BIN / "ray", "job", *words[:1], "--address", address, *words[1:]]
    deadline = time.monotonic() + 60
    while True:
        done = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True)
        # The dashboard answers before the agent that starts jobs has made itself known to it.
        if "No available agent" not in done.stderr or time.monotonic() > deadline:
            return done
        time.sleep(0.5)


@pytest.mark.slow
def test_a_job_is_submitted_with_its_folder(head, tmp_path, write_tar, photo, tiny_inverter):
    address, environment = head
    folder = tmp_path / "work"
    folder.mkdir()
    for s in range(2):
        write_tar(folder / f"{s}.tar", [(f"{s}/{i}.png", photo(10 * s + i)) for i in range(3)])
    out = tmp_path / "latents"
    words = f"restyle invert *.tar --out {out} --model {tiny_inverter} --align none --metrics mse"
    submit = ("submit", "--working-dir", ".", "--", *words.split())

    refused = ray_job(
        address, {**environment, "RAY_AUTH_TOKEN": secrets.token_hex(32)}, *submit, cwd=folder
    )
    assert refused.returncode != 0
    assert re.search("401|403|[Uu]nauth|[Aa]uthent", refused.stdout + refused.stderr)
    assert not out.exists()

    done = ray_job(address, environment, *submit, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 shards, 6 samples, 6 rows (6 ok)" in done.stdout
    assert len(LatentDataset(str(out)).latents()) == 6
