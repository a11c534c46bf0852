"""A Ray cluster that the tests of the engine share, and the job on it."""

import os
from pathlib import Path

import pytest

from pipeline import run
from pipeline.config import ClusterConfig, RunConfig

SITE = Path(__file__).parent.parent.parent / "benchmarks" / "chaos" / "site" / "crashing"


@pytest.fixture(scope="session")
def mended(tmp_path_factory):
    """While this file exists, pictures of one plain colour crash nothing."""
    return tmp_path_factory.mktemp("crashing") / "mended"


@pytest.fixture(scope="package")
def cluster(mended):
    """A Ray head of its own processes, with two logical GPUs.

    Its workers die at pictures of one plain colour, cyan or magenta: see `site/crashing`.
    """
    from ray.cluster_utils import Cluster

    # Its workers inherit the credentials of the test's object store, too.
    here = str(Path(__file__).parent)  # functions of tests are found by name
    path = os.pathsep.join(filter(None, (str(SITE), here, os.environ.get("PYTHONPATH"))))
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


@pytest.fixture
def invert(cluster, tiny_inverter, tmp_path):
    """Run the job on the cluster; returns its summary."""

    def start(shards, out="out", how=None, progress=None, retry_failed=False, **settings):
        defaults = {"model": str(tiny_inverter), "align": "none", "metrics": ("mse",), "steps": 2}
        config = RunConfig(**{**defaults, **settings})
        how = ClusterConfig(**{"address": cluster, **(how or {})})
        out = out if "://" in out else str(tmp_path / out)
        prepared = run.prepare([str(shards)], out, config, how, retry_failed=retry_failed)
        return run.execute(prepared, how, progress or (lambda summary, n_rows_begun: None))

    return start
