"""Labels of samples as columns: which there are, of what type, and nothing lost on the way."""

import hashlib
import json
import re
from dataclasses import replace

import pytest

from pipeline.config import ClusterConfig, RunConfig
from pipeline.engine.run_folder import RunFolder
from pipeline.errors import ConfigError
from pipeline.inversion import run
from pipeline.records import Sample
from pipeline.shards import labels


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
    assert labels.columns([url], ["json", "cls"], {}) == {
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
    assert labels.columns([url], ["txt"], {}) == {"label_txt": "string"}
    # What the user says of a key counts, also of one that is not seen.
    declared = {"label_n": "double", "label_later": "bool"}
    found = labels.columns([url], ["json"], declared)
    assert {name: found[name] for name in declared} == declared
    assert found["label_last"] == "int64"


def test_a_key_that_shards_know_by_two_types_has_one_column_and_loses_nothing(shard):
    urls = [shard("a.tar", [{"x": 1}, {"x": 2}]), shard("b.tar", [{"x": "high"}])]
    names = labels.columns(urls, ["json"], {})
    assert names == labels.columns(urls[::-1], ["json"], {}) == {
        "label_json": "string", "label_x": "int64",
    }  # fmt: skip
    values = [
        labels.values(sample(json=json.dumps({"x": x}).encode()), names)[0] for x in (2.0, 0.5)
    ]
    assert values == [{"label_x": 2}, {"label_json": '{"x": 0.5}'}]
    assert isinstance(values[0]["label_x"], int)


def test_first_middle_and_last_shard_are_looked_at_and_a_broken_one_says_what_it_can(
    shard, tmp_path
):
    urls = [shard(f"{i}.tar", [{f"k{i}": 1}, {"s": 1}]) for i in range(5)]
    whole = (tmp_path / "2.tar").read_bytes()
    (tmp_path / "2.tar").write_bytes(whole[: len(whole) // 4])
    found = labels.columns(urls, ["json"], {})
    assert set(found) >= {"label_k0", "label_k4", "label_s"}
    assert not set(found) & {"label_k1", "label_k3"}
    assert labels.columns([urls[2]], ["json"], {})["label_json"] == "string"


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


def test_shards_that_are_added_have_the_columns_of_the_run(shard, tmp_path, tiny_inverter):
    out = str(tmp_path / "out")

    def prepare(*urls, overwrite=False, keep_fields=("json", "cls")):
        config = RunConfig(
            model=str(tiny_inverter), align="none", metrics=(), keep_fields=keep_fields
        )
        return run.plan_inversion(urls, out, config, ClusterConfig(), overwrite=overwrite)

    old, new = shard("old.tar", [{"smile": 0.5}]), shard("new.tar", [{"new": 1}])
    first = prepare(old)
    RunFolder(out).write_run_record(first.settings, first.tasks, overwrite=False)
    again = prepare(new, old)
    assert again.settings == first.settings
    assert again.settings["label_smile"] == "double"
    with pytest.raises(ConfigError, match="keep_fields: json,cls there, None now"):
        prepare(old, keep_fields=())
    with pytest.raises(ConfigError, match="label_smile: double there, string now"):
        prepare(old, keep_fields=("smile=str", "cls"))
    assert prepare(new, overwrite=True).settings["label_new"] == "int64"


def test_a_file_of_labels_is_a_setting_by_what_it_holds(shard, tmp_path, tiny_inverter):
    urls, path = [shard("s.tar", [{"smile": 0.5}])], tmp_path / "people.csv"

    def prepare(text, out="out", **more):
        path.write_text(text)
        config = RunConfig(
            str(tiny_inverter), align="none", metrics=(), label_file=str(path), **more
        )
        return run.plan_inversion(urls, str(tmp_path / out), config, ClusterConfig())

    first = prepare("key,age,name\n0,30,Ann\n")
    assert {n: v for n, v in first.settings.items() if n.startswith("label")} == {
        "label_age": "int64", "label_name": "string", "labels_on": "key",
        "labels_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }  # fmt: skip
    RunFolder(first.out).write_run_record(first.settings, first.tasks, overwrite=False)
    assert prepare("key,age,name\n0,30,Ann\n").settings == first.settings
    with pytest.raises(ConfigError, match="labels_sha256: .* there, .* now"):
        prepare("key,age,name\n0,31,Ann\n")
    few = prepare("key,age,name\n0,30,Ann\n", "few", label_columns=("age=float",))
    assert first.workers.labels.of("0") == {"label_age": 30, "label_name": "Ann"}
    assert few.workers.labels.of("0") == {"label_age": 30.0}
    with pytest.raises(ConfigError, match="--label-columns are those of --labels"):
        RunConfig(label_columns=("age",))


def test_runs_without_labels_have_the_identity_they_always_had():
    assert "keep_fields" not in RunConfig().settings()
    assert not [name for name in RunConfig().settings() if name.startswith("label")]
    assert "labels" not in RunConfig().settings()


def test_fields_and_types_of_their_keys():
    config = RunConfig(keep_fields=("age=float", "cls", "hair colour=str"))
    assert config.keep_fields == ("json", "cls")
    assert config.labels == {"label_age": "double", "label_hair colour": "string"}
    assert replace(config, labels={**config.labels, "label_n": "int64"}).keep_fields == (
        "json",
        "cls",
    )
    for word, said in {
        "npy": "takes json, txt, cls, and types for keys .* such as age=float",
        "age=number": r"\(float, int, bool, str\), not 'age=number'",
        "a.b=int": "cannot make a column from the key 'a.b'",
        "cls=int": "cannot make a column from the key 'cls'",
    }.items():
        with pytest.raises(ConfigError, match=said):
            RunConfig(keep_fields=(word,))
