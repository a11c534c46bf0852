"""Faults on a real Ray cluster: crashing samples, nodes that come and go, what others see of a run."""

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.chaos.processes import descendants, kill
from pipeline import LatentDataset, errors
from pipeline.config import ClusterConfig, RunConfig
from pipeline.engine import actors, audit, progress
from pipeline.engine.actors import ActorPool
from pipeline.engine.cluster import connect
from pipeline.engine.run import RunPlan, reconcile_with_storage
from pipeline.inversion import run
from pipeline.models import checkpoint_hashes, load_model

CYAN, MAGENTA = (0, 255, 255), (255, 0, 255)  # see benchmarks/chaos/site/crashing


@pytest.fixture
def make_shards(tmp_path, write_tar, photo, plain):
    """Write shards of pictures; some of one plain colour, by (shard, sample)."""

    def make(n_shards, n_samples, coloured):
        folder = tmp_path / "shards"
        folder.mkdir()
        for s in range(n_shards):
            colours = [coloured.get((s, i)) for i in range(n_samples)]
            pictures = [plain(c) if c else photo(10 * s + i) for i, c in enumerate(colours)]
            members = [(f"{s}/{i}.png", data) for i, data in enumerate(pictures)]
            write_tar(folder / f"{s:03}.tar", members)
        return folder

    return make


@pytest.fixture
def plain():
    import io

    from PIL import Image

    def make(colour):
        data = io.BytesIO()
        Image.new("RGB", (80, 60), colour).save(data, "png")
        return data.getvalue()

    return make


def lines(out):
    """Of the logs of all runs into a folder, in order."""
    paths = sorted((out / "_run" / "logs").iterdir())
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_samples_that_crash_are_rows_and_are_retried_on_request(
    invert_on_ray, make_shards, mended, tiny_inverter, tmp_path
):
    shards = make_shards(3, 6, {(0, 2): CYAN, (1, 5): MAGENTA})
    out = tmp_path / "out"
    how = {"n_actors": 1, "batch_size": 4}
    summary = invert_on_ray(shards, how=how)
    assert not summary.failures
    assert summary.n_by_status == {"ok": 16, "crashed": 2}
    rows = LatentDataset(str(out)).table(["key", "status", "error", "latent"]).to_pylist()
    crashed = {row["key"]: row for row in rows if row["status"] == "crashed"}
    assert crashed.keys() == {"0/2", "1/5"}
    assert {row["latent"] for row in crashed.values()} == {None}
    assert all("died" in row["error"] for row in crashed.values())
    assert [a.problems for a in audit.verify(str(out), audit.files(str(out)))] == [[]] * 3
    [found] = [line for line in lines(out) if line["event"] == "sample_crashed"]
    assert (found["samples"], found["shard"]) == ([5], str(shards / "001.tar"))
    assert list((out / "_run" / "careful").iterdir()) == []

    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*.parquet")}
    mended.touch()
    try:
        assert invert_on_ray(shards, how=how).n_shards == 0  # a finished shard stays as it is
        config = RunConfig(model=str(tiny_inverter), align="none", metrics=("mse",), steps=2)
        first = [str(shards / "000.tar")]
        prepared = run.plan_inversion(first, str(out), config, ClusterConfig(), retry_failed=True)
        assert len(prepared.pending) == 1
        assert prepared.left == (str(shards / "001.tar"),)  # with a crashed row, but not named
        again = invert_on_ray(shards, how=how, retry_failed=True)
    finally:
        mended.unlink()
    assert (again.n_shards, again.n_by_status) == (2, {"ok": 12})
    for path in out.glob("*.parquet"):
        assert (path.stat().st_mtime_ns == before[path.name]) == path.name.startswith("002")
    assert len(LatentDataset(str(out)).latents()) == 18


def test_a_retry_that_fails_again_is_said(tmp_path):
    from pipeline.engine.driver import Summary
    from pipeline.records import Task

    task = Task("s.tar", "", "s.parquet")
    (tmp_path / "s.parquet").touch()
    again = frozenset({"s.parquet"})
    workers = run.actor_config(RunConfig(), str(tmp_path), {}, ClusterConfig())
    prepared = RunPlan(workers, str(tmp_path), [task], [task], {}, False, again)
    summary = Summary(failures=[(task, "died")])
    reconcile_with_storage(prepared, summary)
    assert summary.failures == [(task, "died")]


@pytest.mark.slow
@pytest.mark.parametrize(("each", "on_each_gpu"), [(1.0, 1), (0.5, 2)])
def test_gpus_are_shared_as_asked_and_never_more(cluster, tiny_inverter, each, on_each_gpu):
    import ray

    how = ClusterConfig(address=cluster, gpus_per_actor=each)
    config = RunConfig(model=str(tiny_inverter), align="none", metrics=())
    with connect(how):
        hashes = checkpoint_hashes(load_model(config))
        found = ActorPool(run.actor_config(config, "out", hashes, how), how)
        found.scale_up(n_wanted=9)
        names = ray.get(list(found.loading))
    gpus = Counter(re.search(r"gpu (\S+) pid", name)[1] for name in names)
    assert gpus == {"0": on_each_gpu, "1": on_each_gpu}
    assert len({name.split()[-1] for name in names}) == 2 * on_each_gpu


@pytest.mark.slow
def test_what_prometheus_reads(cluster, tiny_inverter, make_shards, tmp_path):
    import ray

    ray.init(address=cluster, log_to_driver=False)
    ports = {node["MetricsExportPort"] for node in ray.nodes()}
    ray.shutdown()
    out, joined = tmp_path / "out", ("--address", cluster, "--actors", "1", "--gpus-per-actor", "0")
    missing = {
        'ray_restyle_rows_total{.*status="ok".*} ',
        'ray_restyle_stage_seconds_total{.*stage="invert".*} ',
        'ray_restyle_stage_seconds_total{.*stage="draw".*} ',
        "ray_restyle_device_wait_seconds_total{.*} ",
        "ray_restyle_shard_seconds_count{.*} ",
        'ray_restyle_shards_total{.*outcome="done".*} ',
        "ray_restyle_shards_left{.*} ",
        'ray_restyle_workers{.*state="busy".*} ',
    }

    def look():
        for port in ports:
            text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
            missing.difference_update([name for name in missing if re.search(name, text)])
        time.sleep(0.2)

    for words in (
        (
            "invert",
            make_shards(2, 3, {}),
            "--out",
            out,
            "--model",
            tiny_inverter,
            "--align",
            "none",
        ),
        ("edit", out, "--out", tmp_path / "edited", "--direction", "sefa:0", "--save-images"),
    ):
        # Drivers of their own, for in this process nothing is exported. What they tell goes with them.
        command = [sys.executable, "-m", "jobs", *map(str, words), *joined]
        driver = subprocess.Popen(command)
        while driver.poll() is None:
            look()
        assert driver.returncode == 0
    deadline = time.monotonic() + 30
    while missing and time.monotonic() < deadline:
        look()
    assert not missing


@pytest.fixture
def scattered():
    """A head without CPUs or GPUs, a node with a GPU and no CPU, and one with a CPU and no GPU."""
    from ray.cluster_utils import Cluster

    found = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    found.add_node(num_cpus=0, num_gpus=1)
    found.add_node(num_cpus=1, num_gpus=0)
    yield found
    found.shutdown()


@pytest.mark.slow
def test_nodes_come_and_go_and_cpu_nodes_feed_gpu_nodes(
    scattered, invert_on_ray, make_shards, tmp_path, monkeypatch
):
    monkeypatch.setattr(actors, "GROW_S", 0.5)
    shards = make_shards(30, 4, {})
    out = tmp_path / "out"
    joined, lost = [], []

    def at_each_step(summary, n_rows_begun):
        if summary.n_shards >= 2 and not joined:
            joined.append(scattered.add_node(num_cpus=0, num_gpus=1, wait=False))
        if joined and not lost and len(summary.workers) == 2:  # it has done a shard
            roots = [i.process.pid for infos in joined[0].all_processes.values() for i in infos]
            lost.extend([*roots, *(pid for root in roots for pid in descendants(root))])
            kill(lost)
            scattered.worker_nodes.remove(joined[0])
        if joined and not lost:
            time.sleep(1)  # the run must not end before the node is there

    how = {"address": scattered.address, "n_actors": None, "batch_size": 1}
    summary = invert_on_ray(shards, how=how, progress=at_each_step)
    assert lost
    assert not summary.failures
    assert len({worker.split()[0] for worker in summary.workers}) == 2  # nodes
    assert summary.n_by_status == {"ok": 120}
    assert [a.problems for a in audit.verify(str(out), audit.files(str(out)))] == [[]] * 30
    assert audit.missing(str(out)) == []
    assert progress.read(str(out)).n_deaths >= 1
    ready = [line for line in lines(out) if line["event"] == "worker_ready"]
    assert len(ready) >= 2


def test_a_second_run_beside_a_first_is_said_and_overwriting_it_refused(
    tiny_inverter, make_shards, tmp_path
):
    out = str(tmp_path / "out")
    config = RunConfig(model=str(tiny_inverter), align="none", metrics=())
    shards = [str(make_shards(1, 2, {}))]
    with progress.RunLog(out, 1, 0):
        prepared = run.plan_inversion(shards, out, config, ClusterConfig())
        assert f"pid {os.getpid()}" in prepared.concurrent_run
        with pytest.raises(errors.ConfigError, match=f"is being written by .*{os.getpid()}; stop"):
            run.plan_inversion(shards, out, config, ClusterConfig(), overwrite=True)
    assert (
        run.plan_inversion(shards, out, config, ClusterConfig(), overwrite=True).concurrent_run
        == ""
    )


def test_files_of_a_retried_shard_are_those_of_its_statuses(tmp_path):
    table = pa.table({"a": [1]})
    for name, counts in (("a", {"ok": 3}), ("b", {"crashed": 1}), ("c", {"no_face": 2})):
        footer = {"restyle": json.dumps({"n_by_status": counts})}
        pq.write_table(table.replace_schema_metadata(footer), tmp_path / f"{name}.parquet")
    names = ["a.parquet", "b.parquet", "c.parquet"]
    assert audit.with_rows(str(tmp_path), names, {"crashed", "not_finite"}) == ["b.parquet"]


def test_more_gpus_than_there_are_is_refused(invert_on_ray, make_shards):
    with pytest.raises(
        errors.ConfigError, match="does not fit on any node: the cluster has 2 GPUs"
    ):
        invert_on_ray(make_shards(1, 1, {}), how={"gpus_per_actor": 3.0})
