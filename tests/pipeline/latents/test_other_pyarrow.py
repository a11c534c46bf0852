"""Files with failed rows, read by the pyarrow that other packages bring along."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.config import FOOTER_KEY, RunConfig
from pipeline.latents import schema
from pipeline.latents.schema import Row
from pipeline.latents.writer import ShardWriter
from pipeline.records import AlignedFace, Status

READ = """
import sys
sys.path.insert(0, sys.argv[1])
import json
import pyarrow as pa, pyarrow.parquet as pq
every = pq.read_table(sys.argv[2])
ok = pq.read_table(sys.argv[2], filters=[("status", "==", "ok")])
latent = ok["latent"].combine_chunks().flatten().flatten().to_pylist()
print(json.dumps([pa.__version__, every["latent"].null_count, every["landmarks"].null_count, latent]))
"""


VERIFY = """
import sys
sys.path.insert(0, sys.argv[1])
from pipeline.engine import audit
[problem] = [p for one in audit.verify(sys.argv[2], ["s.parquet"]) for p in one.problems if "cannot" in p]
print(problem)
"""
OTHERS = ["17.0.0", "25.0.0"]


def packages_of(version):
    packages = Path(sys.prefix) / f"pyarrow-{version}"
    if not packages.is_dir():
        assert "REQUIRE_OTHER_PYARROW" not in os.environ, f"{packages} is missing"
        pytest.skip(f"pip install --target {packages.name} pyarrow=={version} (see .ci/run)")
    return packages


def test_too_old_a_library_is_told_from_damage(tmp_path):
    values = [None, [[1.0, 2.0]], None, [[3.0, 4.0]]]
    latent = pa.array(values, pa.list_(pa.list_(pa.float32(), 2), 1))
    indices = pa.array([0, 1, 2, 3], pa.int32())
    statuses = pa.array(["no_face", "ok", "no_face", "ok"])
    table = pa.table({"sample_index": indices, "status": statuses, "latent": latent})
    record = {"fingerprint": "f", "n_rows": 4, "shard": "s", "n_samples": 4, "n_by_status": {}}
    footer = {FOOTER_KEY: json.dumps(record)}
    pq.write_table(table.replace_schema_metadata(footer), tmp_path / "s.parquet")
    arguments = [sys.executable, "-c", VERIFY, str(packages_of("17.0.0")), str(tmp_path)]
    said = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
    assert "pip install 'pyarrow>=26' and verify again" in said
    assert "delete" not in said


@pytest.mark.parametrize("version", OTHERS)
def test_failed_rows_are_read_by_other_versions(version, tmp_path):
    packages = packages_of(version)
    values = np.arange(40, dtype=np.float32).reshape(2, 4, 5)
    rows = [Row(AlignedFace(0, "0", Status.NO_FACE), Status.NO_FACE, "none")]
    for i in (1, 2):
        landmarks = np.full((68, 2), i, np.float32)
        face = AlignedFace(i, str(i), Status.OK, landmarks=landmarks, quad=landmarks[:4])
        rows += [Row(face, Status.OK, None, values[None, i - 1]), rows[0]]
    writer = ShardWriter(str(tmp_path), "s.parquet", "s.tar", schema.schema(RunConfig(), 4, 5))
    writer.add(rows)
    writer.commit({})
    arguments = [sys.executable, "-c", READ, str(packages), str(tmp_path / "s.parquet")]
    answer = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
    assert json.loads(answer) == [version, 3, 3, values.reshape(-1).tolist()]
