"""The driver on a Ray that costs nothing: what is measured there runs, and survives any order of deaths."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

DEATHS = """
import json, tempfile
from ray.exceptions import RayActorError
from benchmarks import null_actor, scaling
from pipeline.engine import driver, quarantine
from pipeline.engine.actors import ActorPool
from pipeline.config import ClusterConfig

class Mortal(null_actor.NullActor):
    "Each shard holds a sample that kills: sample 7."
    def __init__(self, config):
        self.out = config.out
    def process(self, task, search=None):
        if search is not None and 7 not in search.crashed:
            quarantine.CrashRecorder(self.out, task.output, search).note(7, 7)
        if search is None or 7 not in search.crashed:
            raise RayActorError
        return super().process(task)

null_actor.simulate(1, Mortal)
with tempfile.TemporaryDirectory() as out:
    config = null_actor.NullConfig(out=out, settings={})
    tasks = scaling._tasks(40, "shards")
    pool = ActorPool(config, ClusterConfig())
    summary = driver.run(tasks, pool, config.out, 3, lambda *_: None)
print(json.dumps([summary.n_shards, len(summary.failures), summary.n_deaths]))
"""


def run(*command):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True
    )


@pytest.mark.slow
def test_the_loop_is_measured():
    done = run("-m", "benchmarks.scaling", "--measure", "driver", "200")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["n"], found["n_actors"]) == (200, 64)
    assert found["driver_ms_a_shard"] > 0


@pytest.mark.slow
def test_ray_itself_is_measured():
    """No shard is read: the workers are ours, the queue, the actors and the answers are Ray's."""
    done = run("-m", "benchmarks.scaling", "--measure", "ray", "20")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["n"], found["n_actors"]) == (20, 2)


@pytest.mark.slow
def test_a_run_whose_every_shard_kills_its_worker_is_done():
    done = run("-c", DEATHS)
    assert done.returncode == 0, done.stderr
    # Each shard: once unwatched, then twice at the sample.
    assert json.loads(done.stdout) == [40, 0, 120]
