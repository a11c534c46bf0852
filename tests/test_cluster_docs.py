"""The cluster examples: valid YAML, Ray's own schema, and commands that parse."""

import json
import re
import shlex
from pathlib import Path

import jsonschema
import pytest
import ray
import yaml

from jobs.cli import cli

FOLDER = Path(__file__).parent.parent / "docs" / "cluster"
MACHINES = yaml.safe_load((FOLDER / "ray-cluster.yaml").read_text())
JOB = yaml.safe_load((FOLDER / "rayjob.yaml").read_text())


def commands():
    """Every `restyle` command of the examples and the page beside them."""
    yield JOB["spec"]["entrypoint"]
    yield from re.findall(r"^restyle .*$", (FOLDER / "README.md").read_text(), re.M)


def test_every_command_is_one_that_restyle_takes():
    found = list(commands())
    assert len(found) == 4
    for command in found:
        program, name, *arguments = shlex.split(command)
        assert program == "restyle"
        assert cli.commands[name].make_context(name, arguments).params


def test_a_mistyped_option_would_be_noticed():
    with pytest.raises(Exception, match="No such option"):
        cli.commands["invert"].make_context("invert", ["s.tar", "--out", "x", "--steppes", "5"])


def test_the_cluster_is_one_that_ray_takes():
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(MACHINES, schema)
    worker = MACHINES["available_node_types"]["worker"]
    assert worker["min_workers"] == worker["max_workers"] <= MACHINES["max_workers"]


def test_ray_start_takes_its_options():
    from ray.scripts.scripts import cli as ray_cli

    starts = [
        *MACHINES["head_start_ray_commands"],
        *MACHINES["worker_start_ray_commands"],
        "ray start " + " ".join(f"--{k}={v}" for k, v in head()["rayStartParams"].items()),
    ]
    for command in starts:
        _, name, *arguments = shlex.split(command)
        ray_cli.commands[name].make_context(name, arguments)


def head():
    return JOB["spec"]["rayClusterSpec"]["headGroupSpec"]


def test_the_job_is_a_rayjob_whose_workers_hold_a_gpu():
    assert (JOB["apiVersion"], JOB["kind"]) == ("ray.io/v1", "RayJob")
    [group] = JOB["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert group["replicas"] == group["minReplicas"] == group["maxReplicas"]
    [head_pod], [worker] = (g["template"]["spec"]["containers"] for g in (head(), group))
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert "nvidia.com/gpu" not in head_pod["resources"]["limits"]
    assert worker["image"] == head_pod["image"]
    assert worker["volumeMounts"] == head_pod["volumeMounts"]  # the same weights
