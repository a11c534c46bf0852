"""Between the settings and the engine: what a run believes."""

import pytest

from pipeline.config import ClusterConfig, RunConfig
from pipeline.engine.driver import Summary
from pipeline.engine.run import RunPlan, reconcile_with_storage
from pipeline.inversion import run
from pipeline.records import Task


@pytest.fixture
def prepared(tmp_path):
    tasks = [Task(f"{i}.tar", "", f"{i}.parquet") for i in range(3)]
    workers = run.actor_config(RunConfig(), str(tmp_path), {}, ClusterConfig())
    return RunPlan(workers, str(tmp_path), tasks, tasks, {}, overwrite=False)


def test_storage_is_believed_not_workers(prepared, tmp_path):
    (tmp_path / "0.parquet").touch()
    (tmp_path / "1.parquet").touch()
    # The first was reported as failed, but a worker that was thought dead finished it; of the third a
    # worker said that it was done.
    summary = Summary(n_shards=2, failures=[(prepared.pending[0], "died")])
    reconcile_with_storage(prepared, summary)
    assert [task.source for task, _ in summary.failures] == ["2.tar"]
    assert "on storage that all nodes share" in summary.failures[0][1]


def test_actors_that_fit_are_counted_node_by_node():
    from pipeline.engine.actors import _n_fitting

    assert [_n_fitting(2, each) for each in (0, 0.25, 0.4, 0.6, 1, 2, 3)] == [0, 8, 4, 2, 2, 1, 0]
