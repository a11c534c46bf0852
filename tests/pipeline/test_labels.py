"""Labels of samples as columns: which there are, of what type, and nothing lost on the way."""

import json
import re
from dataclasses import replace

import pytest

from pipeline import LatentDataset, labels, run
from pipeline.config import ClusterConfig, ConfigError, RunConfig
from pipeline.records import Sample


def sample(**fields):
    return Sample(0, "k", None, fields=fields)


@pytest.fixture
def shard(tmp_path, write_tar, photo):
    """A function that writes a shard of one sample for each JSON value."""

    def write(name, objects):
        members = []
        for i, value in enumerate(objects):
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            members += [(f"{i}.png", photo(i)), (f"{i}.json", data)]
        return write_tar(tmp_path / name, members)

    return write


def test_columns_have_the_type_of_most_values(shard):
    url = shard(
        "a.tar",
        [
            {"smile": 1, "n": 1, "male": True, "who": "x", "deep": {"a": 1}, "mixed": "a"},
            {"smile": 0.5, "n": 2, "late": None, "mixed": 3, "a.b": 1, "json": 1, "": 1},
            {"smile": None, "late": 2.0, "mixed": "c"},
            b"no JSON",
            [1, 2],
            {"last": 1},
        ],
    )
    assert labels.columns([url], ["json", "cls"]) == {
        "label_json": "string",
        "label_cls": "int64",
        "label_smile": "double",
        "label_n": "int64",
        "label_male": "bool",
        "label_who": "string",
        "label_mixed": "string",
        "label_late": "double",
        "label_last": "int64",
    }
    assert labels.columns([url], ["txt"]) == {"label_txt": "string"}


def test_first_middle_and_last_shard_are_looked_at_and_a_broken_one_says_what_it_can(
    shard, tmp_path
):
    urls = [shard(f"{i}.tar", [{f"k{i}": 1}, {"s": 1}]) for i in range(5)]
    whole = (tmp_path / "2.tar").read_bytes()
    (tmp_path / "2.tar").write_bytes(whole[: len(whole) // 4])
    found = labels.columns(urls, ["json"])
    assert set(found) >= {"label_k0", "label_k4", "label_s"}
    assert not set(found) & {"label_k1", "label_k3"}
    assert labels.columns([urls[2]], ["json"])["label_json"] == "string"


def test_what_has_no_column_is_kept_as_json():
    names = {"label_json": "string", "label_a": "double", "label_b": "int64", "label_s": "string"}
    data = {"a": 3, "b": 2.5, "c": [1], "s": "\ud800", "json": 7, "d": None}
    found, error = labels.values(sample(json=json.dumps(data).encode()), names)
    assert error is None
    assert json.loads(found.pop("label_json")) == {"b": 2.5, "c": [1], "json": 7, "d": None}
    assert found == {"label_a": 3.0, "label_s": "\\ud800"}
    assert isinstance(found["label_a"], float)
    assert labels.values(sample(json=b"[1]"), names) == ({"label_json": "[1]"}, None)
    huge = json.dumps({"b": 2**63}).encode()
    assert labels.values(sample(json=huge), names)[0] == {"label_json": f'{{"b": {2**63}}}'}


@pytest.mark.parametrize(
    ("field", "data", "error"),
    [
        ("json", b"{", r"^\.json: not JSON"),
        ("json", b"[" * 100_000, r"^\.json: not JSON"),
        ("json", b"\xff", "not UTF-8 text"),
        ("txt", b"\xff", r"^\.txt: not UTF-8 text"),
        ("cls", b"cat", "'cat' is not a whole number"),
        ("cls", b"9" * 19, "64 bits"),
        ("cls", b"9" * 5000, "is not a whole number"),
    ],
)
def test_members_that_do_not_hold_what_they_say(field, data, error):
    found, said = labels.values(sample(**({"txt": b"ok"} | {field: data})), {})
    assert re.search(error, said)
    assert found == ({} if field == "txt" else {"label_txt": "ok"})


def test_labels_stand_beside_the_latents(tmp_path, write_tar, photo, tiny_inverter):
    members = [
        ("a.png", photo(0)),
        ("a.json", b'{"smile": 0.25, "glasses": 1, "box": [1, 2]}'),
        ("a.txt", "größer".encode()),
        ("a.cls", b"7\n"),
        ("b.png", b"no image"),
        ("b.json", b'{"smile": 1}'),
        ("c.png", photo(1)),
        ("c.json", b"broken"),
        ("c.cls", b"3"),
        ("d.png", photo(2)),
    ]
    url = write_tar(tmp_path / "s.tar", members)
    out = str(tmp_path / "out")
    config = RunConfig(
        model=str(tiny_inverter),
        align="none",
        metrics=(),
        steps=1,
        keep_fields=("cls", "json", "txt"),
    )
    how = ClusterConfig(n_actors=1, batch_size=2)

    prepared = run.prepare([url], out, config, how)
    summary = run.execute(prepared, how, lambda summary, n: None)
    assert summary.n_by_status == {"ok": 2, "decode_error": 1, "field_error": 1}
    table = LatentDataset(out).table()
    names = [name for name in table.column_names if name.startswith("label_")]
    columns = table.select(names).to_pydict()
    assert columns == {
        "label_cls": [7, None, 3, None],
        "label_glasses": [1, None, None, None],
        "label_json": ['{"box": [1, 2]}', None, None, None],
        "label_smile": [0.25, 1.0, None, None],
        "label_txt": ["größer", None, None, None],
    }
    assert ".json: not JSON" in table["error"][2].as_py()
    # A shard that is added has the columns of the run, whatever it holds.
    more = write_tar(tmp_path / "0.tar", [("e.png", photo(3)), ("e.json", b'{"new": 1}')])
    again = run.prepare([more, url], out, config, how)
    assert again.workers.run.labels == prepared.workers.run.labels
    assert [task.url for task in again.left] == [more]
    with pytest.raises(ConfigError, match="keep_fields: json,txt,cls there, None now"):
        run.prepare([url], out, replace(config, keep_fields=()), how)
    afresh = run.prepare([more], out, config, how, overwrite=True)
    assert "label_new" in afresh.workers.run.labels


def test_runs_without_labels_have_the_identity_they_always_had():
    assert "keep_fields" not in RunConfig().settings()
    assert "labels" not in RunConfig().settings()
    with pytest.raises(ConfigError, match="takes json, txt, cls, not 'npy'"):
        RunConfig(keep_fields=("npy",))
