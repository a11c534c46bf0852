"""Rows to Parquet and back; a file appears whole or not at all, and twice the same."""

import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pipeline import LatentDataset
from pipeline.config import FOOTER_KEY, RunConfig
from pipeline.faces import images
from pipeline.latents import schema
from pipeline.latents.schema import Row
from pipeline.latents.writer import ROW_GROUP_ROWS, ShardWriter
from pipeline.records import AlignedFace, Status

PIXEL = images.encode_png(np.full((1, 1, 3), 255, np.uint8))
CONFIG = RunConfig(steps=3, latents="all", save_images=True)


def rows(n):
    source = np.random.default_rng(0)
    made = []
    for i in range(n):
        if i % 3 == 1:
            face = AlignedFace(i, f"k{i}", Status.DECODE_ERROR, "broken")
            made.append(Row(face, face.status, face.error))
            continue
        face = AlignedFace(
            i,
            f"k{i}",
            Status.OK,
            face=0,
            n_faces=1,
            landmarks=source.normal(size=(68, 2)).astype(np.float32),
            quad=source.normal(size=(4, 2)).astype(np.float32),
            detection_score=0.5,
            width=3,
            height=2,
        )
        latents = source.normal(size=(3, 4, 5)).astype(np.float32)
        metrics = {"mse": [0.3, 0.2, 0.1], "identity": [None, None, 0.9]}
        made.append(Row(face, Status.OK, None, latents, metrics, PIXEL, PIXEL))
    return made


def write(out, made, name="s.parquet", config=CONFIG):
    columns = schema.schema(config, 4, 5)
    writer = ShardWriter(str(out), name, "s.tar", columns)
    writer.add(made)
    writer.commit({"fingerprint": "f", "n_samples": len(made)})
    return out / name


def test_schema_is_the_contract():
    columns = schema.schema(CONFIG, 18, 512)
    described = {c.name: str(c.type) for c in columns}
    item = "list<item: fixed_size_list<item: float>[512]>"
    assert list(described) == (
        "key shard sample_index face n_faces status error latent latents_by_step mse psnr ms_ssim "
        "identity best_step n_steps precision landmarks quad detection_score width height aligned_image "
        "reconstruction".split()
    )
    assert columns.field("latent").type == pa.list_(pa.list_(pa.float32(), 512))
    assert schema.value_shape(columns.field("latent")) == (18, 512)
    assert schema.value_shape(columns.field("latents_by_step")) == (3, 18, 512)
    assert item in described["latent"]
    assert described["sample_index"] == "int32"
    assert described["face"] == described["n_faces"] == "int16"
    assert columns.field("mse").type == pa.list_(pa.float32())
    plain = schema.schema(RunConfig(align="none", metrics=()), 18, 512)
    assert plain.names == (
        "key shard sample_index face n_faces status error latent best_step n_steps precision "
        "width height".split()
    )


def test_round_trip(tmp_path):
    made = rows(7)
    write(tmp_path, made)
    ds = LatentDataset(str(tmp_path))
    assert len(ds) == 7
    for i, row in enumerate(made):
        read = ds[i]
        assert (read["key"], read["status"]) == (f"k{i}", row.status)
        assert read["error"] == (row.error or "")
        if row.latents is None:
            assert read["latent"] is read["mse"] is read["quad"] is None
            continue
        np.testing.assert_array_equal(read["latent"], row.latents[-1])
        np.testing.assert_array_equal(read["latents_by_step"], row.latents)
        np.testing.assert_array_equal(read["landmarks"], row.face.landmarks)
        np.testing.assert_allclose(read["identity"], [np.nan, np.nan, 0.9], rtol=1e-6)
    kept = [row.latents[-1] for row in made if row.latents is not None]
    np.testing.assert_array_equal(ds.latents(), np.stack(kept))


def test_half_precision_latents(tmp_path):
    made = rows(4)
    write(tmp_path, made, config=RunConfig(steps=3, latent_dtype="float16"))
    latents = LatentDataset(str(tmp_path)).latents()
    assert latents.dtype == torch.float16
    np.testing.assert_allclose(latents[0], made[0].latents[-1], atol=2e-3)


def test_row_groups_and_compression(tmp_path):
    path = write(tmp_path, rows(ROW_GROUP_ROWS + 10))
    metadata = pq.read_metadata(path)
    assert [metadata.row_group(i).num_rows for i in range(2)] == [ROW_GROUP_ROWS, 10]
    column = {
        metadata.row_group(0).column(i).path_in_schema.split(".")[0]: metadata.row_group(0).column(
            i
        )
        for i in range(metadata.row_group(0).num_columns)
    }
    assert column["latent"].compression == "ZSTD"
    assert not any("DICTIONARY" in encoding for encoding in column["latent"].encodings)
    assert any("DICTIONARY" in encoding for encoding in column["status"].encodings)
    assert json.loads(metadata.metadata[FOOTER_KEY])["n_rows"] == ROW_GROUP_ROWS + 10


def test_large_rows_are_not_kept_until_a_row_group_is_full(tmp_path):
    config = RunConfig(keep_fields=("txt",), labels={"label_txt": "string"})
    columns = schema.schema(config, 4, 5)
    out = ShardWriter(str(tmp_path), "s.parquet", "s.tar", columns, row_group_bytes=1000)
    for row in rows(5):
        row.aligned_image = row.reconstruction = None
        row.labels = {"label_txt": "x" * 400}
        out.add([row])
    out.commit({})
    metadata = pq.read_metadata(tmp_path / "s.parquet")
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [3, 2]


def test_written_twice_is_the_same_to_the_byte(tmp_path):
    first = write(tmp_path, rows(5)).read_bytes()
    assert write(tmp_path, rows(5)).read_bytes() == first


def test_nothing_is_seen_before_the_commit_and_nothing_is_left_behind(tmp_path):
    columns = schema.schema(CONFIG, 4, 5)
    killed = ShardWriter(str(tmp_path), "s.parquet", "s.tar", columns)
    killed.add(rows(3))
    abandoned = ShardWriter(str(tmp_path), "s.parquet", "s.tar", columns)
    abandoned.add(rows(3))
    abandoned.abandon()
    assert list(tmp_path.glob("*.parquet")) == []
    write(tmp_path, rows(3))
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["_run", "parts", "s.parquet"]


def test_a_file_is_abandoned_on_a_full_disk(tmp_path):
    writer = ShardWriter(str(tmp_path), "s.parquet", "s.tar", schema.schema(CONFIG, 4, 5))
    writer.add(rows(3))
    with open("/dev/full", "wb") as full:
        os.dup2(full.fileno(), writer._sink.fileno())
    writer.abandon()
    assert writer._sink.closed
    assert [p.name for p in tmp_path.rglob("*")] == ["_run", "parts"]


def test_a_run_without_rows_is_a_file_without_rows(tmp_path):
    write(tmp_path, [])
    assert len(LatentDataset(str(tmp_path))) == 0


def test_mixed_and_empty_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no Parquet file in"):
        LatentDataset(str(tmp_path))
    write(tmp_path, rows(2))
    columns = schema.schema(CONFIG, 4, 5)
    other = ShardWriter(str(tmp_path), "o.parquet", "o.tar", columns)
    other.commit({"fingerprint": "another"})
    with pytest.raises(ValueError, match="mixes runs with different settings"):
        LatentDataset(str(tmp_path))


def test_rows_that_kept_different_steps(tmp_path):
    config = RunConfig(steps=3, latents="best", metrics=("mse", "psnr"))
    made = []
    for i, mse in enumerate([[0.5], [0.5, 0.4], None, [0.5, 0.4, 0.3]]):
        if mse is None:
            face = AlignedFace(i, f"k{i}", Status.NO_FACE, "none")
            made.append(Row(face, face.status, face.error))
            continue
        latents = np.full((len(mse), 4, 5), i, np.float32)
        face = AlignedFace(i, f"k{i}", Status.OK)
        made.append(
            Row(face, Status.OK, None, latents, {"mse": mse, "psnr": mse}, best_step=len(mse))
        )
    write(tmp_path, made, config=config)
    found = pq.read_table(tmp_path / "s.parquet")
    assert found["n_steps"].to_pylist() == found["best_step"].to_pylist() == [1, 2, None, 3]
    ds = LatentDataset(tmp_path)
    assert ds.latents()[:, 0, 0].tolist() == [0, 1, 3]
    assert np.isnan(ds[0]["mse"].numpy()).tolist() == [False, True, True]
    for where, keys in (
        ("mse <= 0.45", "k1 k3"),
        ("mse[0] == 0.5", "k0 k1 k3"),
        ("mse[2] < 1", "k3"),
    ):
        assert [row["key"] for row in LatentDataset(tmp_path, where=where)] == keys.split()
