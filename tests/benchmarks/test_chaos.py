"""`make chaos` itself, in its quick form: a job stopped, killed and run again, nothing lost."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="finds the job's processes in /proc")
def test_nothing_is_lost():
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.chaos", "--quick"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *_path()])},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    trials = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    [found] = trials
    assert found["n_injected"] >= 2
    assert found["n_identical"] == 24


def _path():
    return filter(None, [os.environ.get("PYTHONPATH")])


def test_a_lost_row_is_seen(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    from benchmarks.chaos import world

    row = {"key": ["a", "b"], "latent": [[1.0], [2.0]], "mse": [[0.5], [0.5]]}
    tables = {
        "whole": pa.table(row),
        "close": pa.table({**row, "latent": [[1.00001], [2.0]]}),
        "far": pa.table({**row, "latent": [[1.01], [2.0]]}),
        "other": pa.table({**row, "key": ["a", "c"]}),
        "short": pa.table(row).slice(1),
    }
    for name, table in tables.items():
        pq.write_table(table, tmp_path / name)
    same = {name: world.same_rows(tmp_path / name, tmp_path / "whole") for name in tables}
    assert same == {"whole": True, "close": True, "far": False, "other": False, "short": False}
