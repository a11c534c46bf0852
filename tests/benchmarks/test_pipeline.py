"""What benchmarks/pipeline.py compares: the same rows, with stages that overlap and one after the other."""

import pyarrow.parquet as pq
import pytest

from benchmarks.pipeline import Bench, write_photos
from pipeline.config import ClusterConfig, RunConfig
from pipeline.engine.cluster import connect
from pipeline.shards import packing

N = 5


@pytest.fixture
def bench(tmp_path):
    write_photos(tmp_path / "photos", N, 256)
    [shard] = packing.pack(str(tmp_path / "photos"), str(tmp_path / "%d.tar"), N).shards
    with connect(ClusterConfig()):
        yield Bench(shard, tmp_path, RunConfig(), ClusterConfig(n_actors=1, batch_size=2))


@pytest.mark.ray
@pytest.mark.slow
def test_a_sleeping_model_writes_the_same_file_with_and_without_overlap(bench, tmp_path):
    found = [bench.measure(20.0), bench.measure(20.0, n_ahead=0)]
    files = [path.read_bytes() for path in sorted(tmp_path.glob("out*/*.parquet"))]
    assert files[0] == files[1]
    [path] = (tmp_path / "out1").glob("*.parquet")
    table = pq.read_table(path)
    assert [len(latent) for latent in table["latent"].to_pylist()] == [18] * N
    assert [values[-1] for values in table["identity"].to_pylist()] == [1.0] * N
    for one in found:
        assert one["rows"] == N
        assert one["stages_s"]["invert"] >= N * 0.02
        assert 0 < one["device_waited"] < 1
        assert one["seconds"] > one["stages_s"]["invert"]
