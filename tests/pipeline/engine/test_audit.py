"""`verify` finds what is wrong with a data set, each kind of damage by name."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from latent_folders import failed, inverted, write_file

from pipeline.config import FOOTER_KEY, RunConfig
from pipeline.engine import audit
from pipeline.engine.run_folder import RunFolder
from pipeline.errors import ConfigError
from pipeline.latents import footer
from pipeline.records import Task

CONFIG = RunConfig(steps=1, metrics=())


@pytest.fixture
def latents(tmp_path):
    """A sound data set of two shards, and the third still to do."""
    out = str(tmp_path / "latents")
    RunFolder(out).require_writable()
    asked = [Task(f"{i}.tar", "", f"{i}.parquet") for i in range(3)]
    RunFolder(out).write_run_record(CONFIG.settings(), asked, overwrite=False)
    for i in range(2):
        good = [inverted(n, f"{n}", np.ones((1, 2, 3), np.float32)) for n in range(3)]
        write_file(out, f"{i}.parquet", [*good, failed(3, "3")], CONFIG, shape=(2, 3))
    return tmp_path / "latents"


def problems(latents):
    return [p for a in audit.verify(str(latents), audit.files(str(latents))) for p in a.problems]


def damage(latents, change_table=None, change_footer=None):
    """Rewrite the first file with other rows or another footer."""
    path = latents / "0.parquet"
    table = pq.read_table(path)
    record = footer(pq.read_metadata(path))
    table = change_table(table) if change_table else table
    record = {**record, **(change_footer or {})}
    pq.write_table(table.replace_schema_metadata({FOOTER_KEY: json.dumps(record)}), path)


def test_a_sound_data_set_has_no_problems(latents):
    assert problems(latents) == []
    found = audit.status(str(latents))
    assert (found.n_asked, found.n_done, found.n_rows, found.n_samples) == (3, 2, 8, 8)
    assert found.n_by_status == {"ok": 6, "no_face": 2}
    assert audit.missing(str(latents)) == ["missing: 2.tar has no file"]


def test_a_lost_row_is_found(latents):
    damage(latents, lambda table: table.slice(1))
    assert any("3 rows, but its footer says 4" in p for p in problems(latents))
    assert any("rows of 3 samples, 4 were read" in p for p in problems(latents))


def test_a_row_that_stands_twice_is_found(latents):
    damage(latents, lambda table: pa.concat_tables([table, table.slice(0, 1)]))
    assert any("sample 0, face 0 appears twice" in p for p in problems(latents))


def test_nan_is_found(latents):
    def with_nan(table):
        values = np.ones(4 * 2 * 3, np.float32)
        values[5] = np.nan
        column = pa.FixedSizeListArray.from_arrays(pa.array(values), 3)
        column = pa.FixedSizeListArray.from_arrays(column, 2)
        return table.set_column(table.column_names.index("latent"), "latent", column)

    damage(latents, with_nan)
    assert any("column latent holds NaN or infinity" in p for p in problems(latents))
    assert any("sample 3 is no_face with a latent" in p for p in problems(latents))


def test_another_fingerprint_is_found(latents):
    damage(latents, change_footer={"fingerprint": "0" * 16})
    assert any("different settings from the folder's" in p for p in problems(latents))


def test_a_shard_in_two_files_is_found(latents):
    damage(latents, change_footer={"shard": "1.tar"})
    assert any("shard 1.tar is also in" in p for p in problems(latents))


def test_a_truncated_file_is_found(latents):
    data = (latents / "0.parquet").read_bytes()
    (latents / "0.parquet").write_bytes(data[:-10])
    assert any("cannot be read" in p for p in problems(latents))
    assert len(audit.missing(str(latents))) == 1
    with pytest.raises(ConfigError, match="0.parquet cannot be read.*restyle verify"):
        audit.status(str(latents))


def test_a_foreign_file_is_found(latents):
    pq.write_table(pa.table({"a": [1]}), latents / "foreign.parquet")
    assert any("not written by restyle" in p for p in problems(latents))


def test_a_folder_without_a_run_is_said(tmp_path):
    with pytest.raises(ConfigError, match="contains no run"):
        audit.files(str(tmp_path))
