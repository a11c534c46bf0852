"""Kill the whole job without warning, run the same command again: nothing lost, nothing twice."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.chaos.processes import descendants

N_SHARDS = 6


def kill_all(process):
    """SIGKILL to the job and to every process that it started, Ray's own among them."""
    os.kill(process.pid, signal.SIGSTOP)  # so that it starts no more
    victims = [process.pid, *descendants(process.pid)]
    for pid in victims:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait()


@pytest.fixture
def start(tmp_path, tiny_inverter):
    def run(out):
        return subprocess.Popen(
            f"{sys.executable} -m jobs invert shards --out {out} --steps 2 --model {tiny_inverter} "
            "--align none --metrics mse,psnr --batch-size 4".split(),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return run


@pytest.mark.skipif(not Path("/proc").exists(), reason="finds the job's processes in /proc")
def test_killed_at_any_moment_and_run_again(start, tmp_path, write_tar, photo):
    shards = tmp_path / "shards"
    shards.mkdir()
    for s in range(N_SHARDS):
        members = [(f"{s}/{i}.png", photo(100 * s + i)) for i in range(40)]
        write_tar(shards / f"{s:03}.tar", [*members, (f"{s}/broken.jpg", b"x")])
    undisturbed = start("undisturbed")
    assert undisturbed.wait() == 0, undisturbed.stdout.read()

    out = tmp_path / "out"
    for n_done in (0, 3):  # killed with about so many shards committed
        job = start("out")
        wanted = time.monotonic() + 120
        while len(list(out.glob("*.parquet"))) < n_done and job.poll() is None:
            assert time.monotonic() < wanted
            time.sleep(0.01)
        if not n_done:
            time.sleep(4)  # somewhere in Ray's start
        kill_all(job)
    last = start("out")
    assert last.wait() == 0, last.stdout.read()
    assert "shards were finished before" in last.stdout.read()

    files = {path.name: path.read_bytes() for path in out.glob("*.parquet")}
    expected = {p.name: p.read_bytes() for p in (tmp_path / "undisturbed").glob("*.parquet")}
    assert files.keys() == expected.keys()
    assert len(files) == N_SHARDS
    assert files == expected
    assert not list((out / "_run" / "parts").iterdir())
    verify = subprocess.run(
        [sys.executable, "-m", "jobs", "verify", "out"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert verify.returncode == 0, verify.stdout
    assert f"{N_SHARDS} files, {N_SHARDS * 41} rows, 0 problems" in verify.stdout
