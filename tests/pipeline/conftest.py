"""A Ray cluster that the tests of the engine share; the job on it, or without; runs on disk for reports."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from latent_folders import failed
from report_runs import HOSTILE, N_STEPS, Run, row, write_shard

from pipeline.config import ClusterConfig, RunConfig
from pipeline.engine.run import execute
from pipeline.inversion import run
from pipeline.records import Status

SITE = Path(__file__).parent.parent.parent / "benchmarks" / "chaos" / "site" / "crashing"


@pytest.fixture(scope="session")
def mended(tmp_path_factory):
    """While this file exists, pictures of one plain colour crash nothing."""
    return tmp_path_factory.mktemp("crashing") / "mended"


@pytest.fixture(scope="session")
def describe_by_dlib():
    """A function: dlib's own descriptor of an aligned crop, its chip and network in one call."""
    import dlib
    import numpy as np

    from pipeline.faces import detection

    network = dlib.face_recognition_model_v1(detection.recogniser_path())

    def describe(crop_u8):
        if len(crop_u8) < 256:
            crop_u8 = detection._resized(crop_u8, 256 / len(crop_u8))
        box = dlib.rectangle(*(round(part * len(crop_u8)) for part in detection.ALIGNED_BOX))
        shape = detection._predictor()(crop_u8, box)
        return np.array(network.compute_face_descriptor(crop_u8, shape), np.float32)

    return describe


@pytest.fixture(scope="package")
def cluster(mended):
    """A Ray head of its own processes, with two logical GPUs.

    Its workers die at pictures of one plain colour, cyan or magenta: see `site/crashing`.
    """
    import ray
    from ray.cluster_utils import Cluster

    ray._raylet.Config.metrics_report_interval_ms()  # read here once, and below for its own processes
    # Its workers inherit the credentials of the test's object store, too.
    # Functions of tests are found by name.
    rooms = [str(path.parent) for path in Path(__file__).parent.rglob("test_*.py")]
    found = (str(SITE), *dict.fromkeys(rooms), os.environ.get("PYTHONPATH"))
    path = os.pathsep.join(filter(None, found))
    environment = {
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "PYTHONPATH": path,
        "CHAOS_MENDED": str(mended), "RAY_metrics_report_interval_ms": "500",
    }  # fmt: skip
    before = {name: os.environ.get(name) for name in environment}
    os.environ |= environment
    found = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 2, "num_gpus": 2, "include_dashboard": False},
    )
    yield found.address
    found.shutdown()
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


@pytest.fixture(scope="module")
def joined(cluster):
    """This process is a driver on the cluster, for the tests of a module."""
    import ray

    ray.init(address=cluster, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def invert_to(tiny_inverter):
    """Run the job, without Ray if not told otherwise; returns its summary."""

    def start(out, shards, how=None, progress=None, retry_failed=False, **settings):
        defaults = {"model": str(tiny_inverter), "align": "none", "metrics": ("mse",), "steps": 2}
        config = RunConfig(**{**defaults, **settings})
        how = ClusterConfig(**({"executor": "local"} | (how or {})))
        prepared = run.plan_inversion([str(shards)], out, config, how, retry_failed=retry_failed)
        return execute(prepared, how, progress or (lambda summary, n_rows_begun: None))

    return start


@pytest.fixture
def invert(invert_to, tmp_path):
    """The same into a folder of the test."""

    def start(shards, out="out", **named):
        return invert_to(out if "://" in out else str(tmp_path / out), shards, **named)

    return start


@pytest.fixture
def invert_on_ray(invert, cluster):
    """The same on the cluster, with one actor if not told otherwise."""

    def start(shards, how=None, **named):
        return invert(
            shards,
            how={"executor": "ray", "address": cluster, "n_actors": 1} | (how or {}),
            **named,
        )

    return start


@pytest.fixture
def one_thread():
    """Networks this small lose by threads, on a busy machine tenfold."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def make_run(tmp_path, tiny_inverter, one_thread):
    """Runs of four faces and two failures, the shard beside them."""

    def make(folder="latents", better=0.0, **settings) -> Run:
        usual = {"model": str(tiny_inverter), "metrics": ("mse", "psnr", "identity")}
        config = RunConfig(steps=N_STEPS, **usual | settings)
        run = Run(tmp_path / folder, tiny_inverter, config)
        keys = ["a/first", "second", HOSTILE, "fourth", "nobody", "broken"]
        if not (tmp_path / "photos.tar").exists():
            write_shard(tmp_path / "photos.tar", keys)
        rows = [row(i, key, config, better) for i, key in enumerate(keys[:4])]
        nobody = failed(4, "nobody", Status.NO_FACE, "no face was found")
        nobody.face = replace(nobody.face, width=80, height=64)
        rows += [nobody, failed(5, "broken", Status.DECODE_ERROR, "<b>cut & short</b>")]
        run.add("photos.parquet", rows, str(tmp_path / "photos.tar"))
        return run

    return make
