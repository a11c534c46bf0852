"""Rows of edits: order, numbers, failures, types."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.editing.rows import Edits
from pipeline.latents.schema import dense


@pytest.fixture
def edits(make_latents, tmp_path):
    """Two directions at two strengths, and the batch of a source file with them."""

    def build(dtype="float32", strengths=(-1.0, 2.0)):
        made = make_latents(tmp_path / "latents", 1, labels={"smile": np.arange(6.0)}, dtype=dtype)
        directions = np.random.default_rng(1).normal(size=(2, *made.shape)).astype(np.float32)
        path = next((tmp_path / "latents").glob("*.parquet"))
        batch = pq.read_table(path).combine_chunks().to_batches()[0]
        return Edits(("a", "b"), directions, strengths), batch, made

    return build


def test_every_row_once_for_each_direction_and_strength(edits):
    plan, batch, made = edits()
    table, latents = plan.apply(batch)
    columns = plan.columns(batch.schema, save_images=False)
    [rows] = plan.batches(table, None, columns)
    assert rows.num_rows == 6 * 4
    assert rows.column("direction").to_pylist() == ["a", "a", "b", "b"] * 6
    assert rows.column("strength").to_pylist() == [-1, 2, -1, 2] * 6
    assert rows.column("sample_index").to_pylist() == [i for i in range(6) for _ in range(4)]
    assert rows.column("label_smile").to_pylist()[4:8] == [1.0] * 4
    found = dense(rows.column("latent").drop_null())
    assert np.array_equal(found, latents)
    assert found.shape == (20, *made.shape)
    np.testing.assert_allclose(found[7], made.latents[1] + 2 * plan.directions[1], rtol=1e-6)


def test_failures_stay_failures(edits):
    plan, batch, _ = edits()
    table, _ = plan.apply(batch)
    last = table.slice(20).to_pylist()
    assert {row["status"] for row in last} == {"no_face"}
    assert {row["error"] for row in last} == {"nobody"}
    assert all(row["latent"] is None for row in last)


def test_an_edit_beyond_all_numbers_is_a_failure_of_its_own(edits):
    plan, batch, _ = edits("float16", (1.0, 1e6))
    table, latents = plan.apply(batch)
    [rows] = plan.batches(table, None, plan.columns(batch.schema, save_images=False))
    assert rows.column("status").to_pylist()[:4] == ["ok", "not_finite"] * 2
    assert "smaller strength" in rows.column("error")[1].as_py()
    assert rows.column("latent").is_valid().to_pylist()[:4] == [True, False] * 2
    assert np.isfinite(latents).all()
    assert rows.schema.field("latent").type.value_type.value_type == pa.float16()


def test_columns_are_the_sources_and_two_more(edits):
    plan, batch, _ = edits()
    source = batch.schema.append(pa.field("aligned_image", pa.binary()))
    source = source.append(pa.field("latents_by_step", batch.schema.field("latent").type))
    added = {"direction", "strength"}
    without = plan.columns(source, save_images=False).names
    assert set(without) == {*batch.schema.names, *added}
    assert without.index("direction") == without.index("latent") + 1
    drawn = plan.columns(source, save_images=True).names
    assert set(drawn) == {*without, "aligned_image", "reconstruction"}
