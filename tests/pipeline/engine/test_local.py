"""Runs without Ray: the bytes of a run on Ray, and what of faults, signals and deaths they survive."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.chaos.processes import descendants
from pipeline import LatentDataset
from pipeline.config import ClusterConfig
from pipeline.engine import audit, local, progress
from pipeline.engine import run as engine
from pipeline.errors import ConfigError
from pipeline.inversion.batches import BatchInverter
from pipeline.records import CRASHED_ERROR, Task

ROOT = Path(__file__).parents[3]
SITE = ROOT / "benchmarks" / "chaos" / "site" / "crashing"
CYAN = (0, 255, 255)  # kills whoever decodes it: see there
LOCAL = ClusterConfig(executor="local")


@pytest.fixture(scope="module")
def make_shards(tmp_path_factory, write_tar, photo):
    """Write shards of three pictures; the second of a coloured one is of a plain colour."""

    def make(n_shards, colour=None):
        folder = tmp_path_factory.mktemp("local") / "shards"
        folder.mkdir()
        for s in range(n_shards):
            members = [(f"{s}/{i}.png", photo(10 * s + i)) for i in range(3)]
            if colour:
                data = io.BytesIO()
                Image.new("RGB", (80, 60), colour).save(data, "png")
                members[1] = (f"{s}/1.png", data.getvalue())
            write_tar(folder / f"{s:03}.tar", members)
        return folder

    return make


def content(folder):
    return {path.name: path.read_bytes() for path in sorted(Path(folder).glob("*.parquet"))}


def events(out):
    """Of the logs of all runs into a folder, each event and its facts."""
    paths = sorted((Path(out) / "_run" / "logs").iterdir())
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_the_bytes_are_those_of_a_run_on_ray(
    invert, invert_on_ray, make_shards, tmp_path, monkeypatch
):
    monkeypatch.setattr(local, "n_cpus", lambda: 2)  # as many as the tests' cluster has
    shards = make_shards(2)
    settings = {"metrics": ("mse", "identity"), "latents": "all", "save_images": True}
    here = invert(shards, "here", **settings)
    there = invert_on_ray(shards, out="there", **settings)
    assert content(tmp_path / "here") == content(tmp_path / "there")
    assert len(content(tmp_path / "here")) == 2
    assert here.n_by_status == there.n_by_status == {"ok": 6}
    told, of_ray = ([e["event"] for e in events(tmp_path / name)] for name in ("here", "there"))
    assert told == of_ray
    assert f"pid {os.getpid()}" in next(iter(here.workers))


@pytest.mark.slow
def test_a_photo_that_kills_its_process_is_a_row(invert, make_shards, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{SITE}{os.pathsep}{ROOT}")
    summary = invert(make_shards(1, CYAN))
    assert (summary.n_by_status, summary.n_deaths) == ({"ok": 2, "crashed": 1}, 0)
    rows = LatentDataset(str(tmp_path / "out")).table(["key", "status", "error"]).to_pylist()
    assert [row["status"] for row in rows] == ["ok", "crashed", "ok"]
    assert rows[1]["error"] == CRASHED_ERROR


@pytest.mark.parametrize("n_failures", [2, 3])
def test_an_error_of_the_model_is_tried_again(
    invert, make_shards, tmp_path, monkeypatch, n_failures
):
    begin, left = BatchInverter._invert, [RuntimeError("of the model")] * n_failures

    def failing(self, batch):
        if left:
            raise left.pop()
        return begin(self, batch)

    monkeypatch.setattr(BatchInverter, "_invert", failing)
    summary = invert(make_shards(1))
    assert summary.n_retries == 2
    found = [(error, summary.n_shards) for _, error in summary.failures] or summary.n_shards
    assert found == (1 if n_failures == 2 else [("RuntimeError: of the model", 0)])
    # The rows are believed when they lie there, and nothing half done is left.
    assert len(content(tmp_path / "out")) == summary.n_shards
    assert not list((tmp_path / "out" / "_run" / "parts").iterdir())


def test_a_worker_that_cannot_load_ends_the_run(invert, make_shards, monkeypatch):
    from pipeline.inversion.actor import InversionActor

    def fails(self):
        raise RuntimeError("no room for it")

    monkeypatch.setattr(InversionActor, "load_models", fails)
    summary = invert(make_shards(2))
    assert summary.n_deaths == 4
    [one, other] = [error for _, error in summary.failures]
    assert one == other
    assert one.endswith("before they finish a single shard: RuntimeError: no room for it")


PROGRAM = """
import atexit, sys
from jobs import cli
sys.argv = ["restyle", *sys.argv[1:]]
loaded = lambda: print("loaded:", *sorted({"ray", "torch"} & sys.modules.keys()), flush=True)
atexit.register(loaded)
cli.program()
"""


@pytest.mark.slow
def test_stopped_and_killed_it_leaves_no_process_and_goes_on(
    invert, make_shards, tiny_inverter, tmp_path
):
    shards, out = make_shards(8), tmp_path / "out"
    words = ["invert", shards, "--out", out, "--model", tiny_inverter, "--align", "none", "--steps"]
    command = [sys.executable, "-c", PROGRAM, *map(str, words), "2", "--metrics", "mse"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def start():
        return subprocess.Popen(
            [*command, "--executor", "local"], env=environment, text=True, process_group=0,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    for number in (signal.SIGINT, signal.SIGKILL):
        before = len(content(out))
        with start() as run:
            while len(content(out)) == before:
                time.sleep(0.01)
                assert run.poll() is None, run.communicate()
            processes = descendants(run.pid)
            os.killpg(run.pid, number)  # as a terminal does
            _, said = run.communicate()
        assert run.returncode == (130 if number == signal.SIGINT else -number)
        assert ("stopped; run the same command again" in said) is (number == signal.SIGINT)
        assert "Traceback" not in said
        assert processes
        while any(Path(f"/proc/{pid}").exists() for pid in processes):
            time.sleep(0.01)
        assert progress.read(str(out)).state == (
            "stopped" if number == signal.SIGINT else "running"
        )
        left = [Task("s.tar", "size=1", "s.parquet")]
        wanted = "local" if number == signal.SIGINT else "ray"  # which a sample cannot kill
        assert engine.executor_for(ClusterConfig(), str(out), left) == wanted
    with start() as run:
        said, error = run.communicate()
    assert run.returncode == 0, error
    assert "loaded: torch\n" in said
    assert "of 8 shards were finished before" in said
    assert [found.problems for found in audit.verify(str(out), audit.files(str(out)))] == [[]] * 8
    invert(shards, "whole")
    assert content(out) == content(tmp_path / "whole")


ENDLESS = """
import sys
import torch
from jobs import cli
from pipeline.inversion.batches import BatchInverter

def endless(self, batch):
    print("computing", flush=True)
    a = torch.ones(1000, 1000)
    while True:
        a = a @ a

BatchInverter._invert = endless
sys.argv = ["restyle", *sys.argv[1:]]
cli.program()
"""


@pytest.mark.slow
def test_stopped_inside_a_network_it_ends_as_stopped(make_shards, tiny_inverter, tmp_path):
    """Python's own end would abort the thread that is there, and with it the process."""
    words = ["invert", make_shards(1), "--out", tmp_path / "out", "--model", tiny_inverter]
    command = [sys.executable, "-c", ENDLESS, *map(str, words), "--align", "none", "--metrics="]
    with subprocess.Popen(
        [*command, "--executor", "local"], env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as run:  # fmt: skip
        while run.stdout.readline() != "computing\n":
            assert run.poll() is None, run.communicate()
        run.send_signal(signal.SIGINT)
        _, said = run.communicate()
    assert (run.returncode, "terminate" in said) == (130, False), said
    assert said.rstrip().endswith("stopped; run the same command again to resume")


def test_what_runs_where(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    small = [Task(f"{i}.tar", "size=1000 mtime_ns=1", f"{i}.parquet") for i in range(3)]

    def chosen(pending=small, **how):
        return engine.executor_for(ClusterConfig(**how), str(tmp_path), pending)

    assert chosen() == chosen(n_actors=1) == chosen(gpus_per_actor=0) == "local"
    assert chosen(executor="ray") == chosen(address="auto") == chosen(n_actors=2) == "ray"
    assert chosen(gpus_per_actor=0.5) == "ray"
    assert engine.executor_for(ClusterConfig(), str(tmp_path), small, may_kill=True) == "ray"
    large = replace(small[0], version=f"size={engine.MAX_LOCAL_BYTES}")
    assert chosen([*small, large]) == chosen([*small, replace(large, version="")]) == "ray"
    assert chosen([large]) == "local"
    assert chosen([*small, large], executor="local") == "local"
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert chosen() == "ray"
    assert chosen(executor="local") == "local"
    assert engine.runs_here(ClusterConfig(executor="local"))
    assert not engine.runs_here(ClusterConfig())


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"address": "auto"}, "--executor local uses no cluster; leave out --address, or"),
        ({"n_actors": 2}, "--executor local is one worker; leave out --actors, or pass"),
    ],
)
def test_what_only_ray_can_do_is_refused(settings, says):
    with pytest.raises(ConfigError, match=says):
        replace(LOCAL, **settings)


def test_cpus_are_counted_as_ray_counts_them():
    from ray._private.utils import get_num_cpus

    assert local.n_cpus() == get_num_cpus()
