"""Which files are one data set."""

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs as pafs
from stores import s3_server

from pipeline import LatentDataset
from pipeline.errors import ConfigError
from pipeline.storage.filesystems import filesystem


def keys(path):
    return [row["key"] for row in LatentDataset(path, columns=["key"])]


def test_a_folder_a_file_and_globs(write_latents, tmp_path, monkeypatch):
    folder = write_latents(sizes=(2, 2, 2))
    (tmp_path / "latents" / "notes.txt").write_text("not a part of it")
    everything = [f"k{i}" for i in range(6)]
    assert (
        keys(folder)
        == keys(Path(folder))
        == keys(f"{folder}/")
        == keys(f"{folder}/*.parquet")
        == everything
    )
    assert keys(f"{folder}/1.parquet") == ["k2", "k3"]
    assert keys(f"{folder}/[02].parquet") == ["k0", "k1", "k4", "k5"]
    monkeypatch.chdir(tmp_path)
    assert keys("latents") == keys("*/*.parquet") == everything
    monkeypatch.chdir(folder)
    assert keys("*.parquet") == keys(".") == everything
    assert keys("0.parquet") == ["k0", "k1"]
    for nothing in ("absent", "*.csv", "absent/*.parquet", str(tmp_path / "*.parquet")):
        with pytest.raises(ConfigError, match=r"no Parquet file in .*is it the --out of a run\?"):
            LatentDataset(nothing)


def test_files_that_do_not_belong_together_are_refused_with_the_difference(write_latents):
    folder = write_latents()
    write_latents(sizes=(2,), name="other.parquet", steps=3)
    with pytest.raises(
        ConfigError, match=r"mixes runs .*0.parquet and other.parquet differ: steps: 2 there, 3 now"
    ):
        LatentDataset(folder)


def test_a_file_of_another_origin_among_those_of_a_run_is_named(write_latents, tmp_path):
    folder = write_latents()
    pq.write_table(pa.table({"key": ["a"]}), tmp_path / "latents" / "z.parquet")
    with pytest.raises(ConfigError, match=r"differ: 0\.parquet alone was written by restyle"):
        LatentDataset(folder)


def test_two_widths_are_refused_with_the_difference(write_latents):
    folder = write_latents()
    write_latents(sizes=(2,), name="wide.parquet", shape=(4, 6))
    with pytest.raises(ConfigError, match=r"latent: float\[4, 5\] there, float\[4, 6\] now"):
        LatentDataset(folder)


def test_files_of_another_origin(tmp_path):
    pq.write_table(pa.table({"key": ["a", "b"], "x": [1, None]}), tmp_path / "a.parquet")
    ds = LatentDataset(str(tmp_path))
    assert (len(ds), ds.footer, ds[0]) == (2, {}, {"key": "a", "x": 1.0})
    with pytest.raises(ConfigError, match="does not record the average latent"):
        _ = ds.latent_avg
    pq.write_table(pa.table({"key": ["c"]}), tmp_path / "b.parquet")
    with pytest.raises(ConfigError, match="x: int64 there, none now"):
        LatentDataset(str(tmp_path))


def test_a_damaged_file_is_named(write_latents):
    folder = write_latents()
    path = Path(folder, "1.parquet")
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ConfigError, match=r"1\.parquet cannot be read .*restyle verify"):
        LatentDataset(folder)


def test_an_object_store(write_latents):
    local = write_latents(sizes=(6, 5, 3))
    with s3_server() as (_, address):
        pafs.copy_files(local, "data/run", destination_filesystem=filesystem(address("run"))[0])
        ds = LatentDataset(address("run"))
        assert (len(ds), ds[13]["key"]) == (14, "k13")
        assert ds.latents().equal(LatentDataset(local).latents())
        some = LatentDataset(address("run/[01].parquet"), where="mse[-1] >= 0.7")
        assert [row["key"] for row in some] == ["k7", "k8", "k10"]
        with pytest.raises(ConfigError, match="no Parquet file in s3://data/absent") as error:
            LatentDataset(address("absent"))
        assert "SECRET" not in str(error.value)


def test_opening_reads_footers_alone(write_latents):
    """The pages of all columns may be gone."""
    folder = write_latents(sizes=(6,))
    path = f"{folder}/0.parquet"
    record = pq.read_metadata(path)
    whole = Path(path).read_bytes()
    length = int.from_bytes(whole[-8:-4], "little") + 8
    with open(path, "r+b") as file:
        file.write(os.urandom(len(whole) - length))
    ds = LatentDataset(path)
    assert len(ds) == record.num_rows == 6
    assert ds.footer["fingerprint"] == json.loads(record.metadata[b"restyle"])["fingerprint"]
    with pytest.raises(ConfigError, match=r"0\.parquet cannot be read"):
        ds[0]
