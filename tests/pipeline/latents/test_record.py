"""Footers of strangers, and damaged ones: one sentence that names file and entry, whoever reads it."""

import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import LatentDataset
from pipeline.config import ClusterConfig
from pipeline.editing.edit import EditConfig, plan_edit
from pipeline.engine import audit
from pipeline.errors import ConfigError
from pipeline.latents import columns, export, footer, record
from pipeline.latents.record import DamagedRecord
from pipeline.report import source

# A dotted entry, what a stranger puts there as JSON, and what is said of it.
WRONG = [
    ("fingerprint", "null", "fingerprint is null, not a text"),
    ("fingerprint", '"a\\nb"', "not a text of one line"),
    ("metric_protocol", '"\\u001b[2J"', "not a text of one line"),
    ("identity", "3", "identity is 3, not an object"),
    ("identity", '["steps"]', "identity is a list of 1"),
    ("identity.steps", "500000000", "identity.steps is 500000000, not a whole number from 1"),
    ("identity.steps", "2.0", "identity.steps is 2.0"),
    ("identity.steps", "true", "identity.steps is true"),
    ("identity.metrics", '"mse"', "not a list of texts"),
    ("identity.metrics", "[[]]", "not a list of texts"),
    ("identity.generator_sha256", "null", "identity.generator_sha256 is null"),
    ("identity.encoder_sha256", "{}", "identity.encoder_sha256"),
    ("identity.label_x", '"nonsense"', "identity.label_x"),
    ("identity.protocol", '"3"', "identity.protocol"),
    ("identity.unknown", '{"a": 1}', "identity.unknown is an object of 1"),
    ("identity.edit_directions", '["a"]', "edit_directions and identity.edit_strengths"),
    ("identity.metrics", "DELETED", None),
    ("model", "null", "model is null"),
    ("model", '"\\ud800"', "half a character"),
    ("then", "[]", "then is a list of 0"),
    ("shard", "7", "shard is 7"),
    ("n_samples", "-1", "n_samples is -1, not a whole number from 0"),
    ("n_samples", "1e999", "too large"),
    ("n_samples", str(2**64), "more than 64 bits"),
    ("n_rows", "NaN", "NaN, which is not a number"),
    ("n_worse", '"many"', "n_worse"),
    ("n_by_status", "-1", "n_by_status is -1"),
    ("n_by_status", '{"ok": "1"}', "n_by_status"),
    ("versions", "null", "versions is null"),
    ("versions", '{"torch": 2}', "versions"),
    ("latent_avg", '"AAAA"', "latent_avg has 3 bytes"),
    ("latent_avg", '"%%%"', "latent_avg is not base64"),
    ("latent_avg", '"ä"', "latent_avg is not base64"),
    ("latent_avg_shape", "[512]", "latent_avg has 8 bytes"),
    ("latent_avg_shape", "[-1]", "latent_avg_shape"),
    ("latent_avg_shape", "[[1]]", "latent_avg_shape"),
    ("latent_avg_shape", "[4294967296, 4294967296]", "latent_avg_shape"),
    ("latent_avg_shape", "DELETED", "without latent_avg_shape"),
    ("more", "[" * 100 + "]" * 100, "nested too deeply"),
    (None, "[1]", "it is a list of 1"),
    (None, "null", "it is null"),
    (None, '"x"', 'it is "x"'),
    (None, "7", "it is 7"),
    (None, '{"fingerprint": "a', "not JSON"),
    (None, "[" * 100_000, "nested too deeply"),
    (None, b"\xff\xfe\x00{", "it is not"),
    (None, b"", "not JSON"),
]


def rewritten(folder, content=None, change=lambda table: table):
    """Give the first file another footer (None: its own), and a changed table."""
    path = sorted(folder.glob("*.parquet"))[0]
    table = change(pq.read_table(path)).replace_schema_metadata()
    content = pq.read_metadata(path).metadata[b"restyle"] if content is None else content
    with pq.ParquetWriter(path, table.schema) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({b"restyle": content})
    return path


def patched(path, entry, value):
    """The record of a file with JSON in the place of an entry."""
    content = json.loads(pq.read_metadata(path).metadata[b"restyle"])
    if entry is None:
        return value
    *folders, name = entry.split(".")
    place = content
    for folder in folders:
        place = place[folder]
    if value == "DELETED":
        del place[name]
        return json.dumps(content)
    place[name] = "@here"
    return json.dumps(content).replace('"@here"', value)


def readers(folder):
    """All that reads footers, by name."""
    config = EditConfig(directions=("demo:smile",))
    return {
        "status": lambda: audit.status(folder),
        "with_rows": lambda: audit.with_rows(folder, audit.files(folder), {"crashed"}),
        "dataset": lambda: LatentDataset(folder),
        "export": lambda: export.open_rows(folder, None),
        "report": lambda: source.open_run(folder),
        "edit": lambda: plan_edit(folder, f"{folder}.e", config, ClusterConfig(), dry_run=True),
    }


@pytest.mark.parametrize(("entry", "value", "says"), WRONG)
def test_a_wrong_entry_is_named_by_whoever_reads_it(write_latents, tmp_path, entry, value, says):
    folder = write_latents(sizes=(3,))
    path = sorted((tmp_path / "latents").glob("*.parquet"))[0]
    rewritten(tmp_path / "latents", patched(path, entry, value))
    for name, read in readers(folder).items():
        if says is None:  # only missing: some can do without
            continue
        with pytest.raises(DamagedRecord) as refused:
            read()
        text = str(refused.value)
        assert says in text, name
        assert "0.parquet" in text, name
        assert len(text) < 500, name
        assert "\n" not in text, name
    [found] = audit.verify(folder, ["0.parquet"])
    assert bool(found.problems) or says is None


def test_what_is_sound_stays_readable(write_latents, tmp_path):
    folder = write_latents(sizes=(3,))
    path = rewritten(tmp_path / "latents")
    found = footer(pq.read_metadata(path))
    assert np.array_equal(record.latent_avg(found), [1, 2])
    assert LatentDataset(folder).latent_avg.tolist() == [1, 2]
    for entry, value in (
        ("n_worse", "0"),
        ("then", "null"),
        ("identity.label_x", '"double"'),
        ("identity.later_setting", "[1, null]"),
        ("later_entry", '{"any": ["thing"]}'),
    ):
        rewritten(tmp_path / "latents", patched(path, entry, value))
        assert audit.status(folder).n_rows == 3
    rewritten(tmp_path / "latents", "{}")
    assert LatentDataset(folder).footer == {}  # of another origin


def other_type(name, values):
    def change(table):
        place = table.schema.get_field_index(name)
        return table.set_column(place, name, values)

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (other_type("key", pa.array([1, 2, 3])), "key is int64, not texts"),
        (other_type("status", pa.array([b"ok"] * 3)), "status is binary"),
        (other_type("sample_index", pa.array(["0"] * 3)), "sample_index is string"),
        (other_type("face", pa.array([0.5] * 3)), "face is double"),
        (other_type("mse", pa.array([0.5] * 3)), "mse is double, not lists of numbers"),
        (other_type("latent", pa.array([[1.0]] * 3)), "not arrays of two dimensions"),
        (other_type("latent", pa.array([[["x"]]] * 3)), "not arrays of two dimensions"),
        (other_type("width", pa.nulls(3)), "width is null"),
        (lambda table: table.append_column("key", table["key"]), "two columns key"),
    ],
)
def test_columns_of_other_types_are_refused(write_latents, tmp_path, change, says):
    folder = write_latents(sizes=(3,))
    rewritten(tmp_path / "latents", change=change)
    for name in ("status", "report", "edit"):
        with pytest.raises(DamagedRecord, match=says):
            readers(folder)[name]()
    with pytest.raises(ConfigError, match="two columns" if "two c" in says else says):
        LatentDataset(folder)


def test_a_column_that_may_have_gaps_is_refused_where_its_rows_are_named(write_latents, tmp_path):
    folder = write_latents(sizes=(3,))
    rewritten(tmp_path / "latents", change=other_type("key", pa.array(["a", None, "c"])))
    for name in ("report", "edit"):
        with pytest.raises(ConfigError, match="gaps in its column key|was not written by"):
            readers(folder)[name]()


def test_damaged_bytes_end_in_one_sentence(write_latents, tmp_path):
    folder = write_latents(sizes=(3,))
    path = tmp_path / "latents" / "0.parquet"
    whole = path.read_bytes()
    source_of_chance = np.random.default_rng(0)
    said = []
    for _ in range(60):
        damaged = bytearray(whole)
        for place in source_of_chance.integers(len(whole) - 6000, len(whole), 3):
            damaged[place] ^= int(source_of_chance.integers(1, 256))
        path.write_bytes(damaged)
        for name in ("status", "dataset", "report"):
            try:
                readers(folder)[name]()
            except ConfigError as error:
                said.append(str(error))
    assert len(said) > 60
    assert all("0.parquet" in text or "column" in text for text in said)


def test_a_pipe_among_the_files_is_not_waited_for(write_latents, tmp_path):
    folder = write_latents(sizes=(3,))
    os.mkfifo(tmp_path / "latents" / "1.parquet")
    for name in ("status", "with_rows"):
        with pytest.raises(
            ConfigError, match=r"1.parquet cannot be read \(it is not a regular file"
        ):
            readers(folder)[name]()
    [_, found] = audit.verify(folder, audit.files(folder))
    assert "not a regular file" in found.problems[0]


def test_text_that_is_none_is_damage():
    offsets, data = pa.py_buffer(np.array([0, 3], np.int32).tobytes()), pa.py_buffer(b"a\xfab")
    column = pa.StringArray.from_buffers(1, offsets, data)
    with pytest.raises(ConfigError, match="the column key holds text that is not UTF-8"):
        columns.decoded(pa.table({"key": column}))
