"""What is left to do, and what is refused."""

import json
import os

import pytest

from pipeline import plan
from pipeline.config import ConfigError, RunConfig, difference, fingerprint


@pytest.fixture
def shards(tmp_path, write_tar):
    folder = tmp_path / "shards"
    folder.mkdir()
    return [write_tar(folder / f"{i:03}.tar", [("a.jpg", b"1")]) for i in range(3)]


def urls(*patterns):
    return [task.url for task in plan.tasks(patterns)]


def test_braces_globs_folders_and_paths_name_the_same_shards(shards, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert urls("shards/{000..002}.tar") == shards
    assert urls("shards/*.tar") == shards
    assert urls("shards") == shards
    assert urls(*shards, "shards/*.tar") == shards  # each once


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("absent.tar", "no shard matches absent.tar"),
        ("absent/*.tar", "no shard matches"),
        ("shards/{000..003}.tar", "no shard matches shards/003.tar"),
        ("http://127.0.0.1:9/x.tar", "cannot reach"),
    ],
)
def test_a_pattern_that_matches_nothing_is_refused(shards, tmp_path, monkeypatch, pattern, says):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=says):
        plan.tasks([pattern])


def test_a_folder_of_photos_is_told_to_pack_them(tmp_path, photo):
    (tmp_path / "a.jpg").write_bytes(photo())
    with pytest.raises(ConfigError, match="1 images and no tar shards.*restyle pack"):
        plan.tasks([str(tmp_path)])


def test_names_depend_on_url_and_content(shards):
    first, second, _ = plan.tasks(shards)
    assert first.output != second.output
    assert plan.tasks(shards)[0] == first
    os.utime(shards[0], ns=(1, 1))
    changed = plan.tasks(shards)[0]
    assert changed.output[:12] == first.output[:12]
    assert changed.output != first.output


def test_names_do_not_depend_on_credentials():
    with_user = plan.task("https://user:secret@host/a.tar?sig=1", "")
    assert with_user.output == plan.task("https://host/a.tar?sig=2", "").output
    assert "secret" not in with_user.output


def test_pending_leaves_out_what_is_committed(shards, tmp_path):
    asked = plan.tasks(shards)
    assert plan.pending(asked, str(tmp_path / "out")) == asked
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / asked[1].output).touch()
    assert plan.pending(asked, str(tmp_path / "out")) == [asked[0], asked[2]]


def test_a_changed_shard_is_refused(shards, tmp_path):
    asked = plan.tasks(shards)
    (tmp_path / asked[0].output).touch()
    os.utime(shards[0], ns=(1, 1))
    with pytest.raises(ConfigError, match=r"000\.tar has changed since.*delete 000\."):
        plan.pending(plan.tasks(shards), str(tmp_path))


def test_a_folder_of_other_settings_is_refused_with_the_difference(tmp_path):
    out = str(tmp_path / "out")
    plan.claim(out, RunConfig(steps=5).settings(), overwrite=False)
    plan.claim(out, RunConfig(steps=5).settings(), overwrite=False)
    with pytest.raises(ConfigError, match=r"\(steps: 5 there, 3 now\)"):
        plan.claim(out, RunConfig(steps=3).settings(), overwrite=False)
    (tmp_path / "out" / "old.parquet").touch()
    plan.claim(out, RunConfig(steps=3).settings(), overwrite=True)
    assert plan.committed(out) == []


def test_a_folder_of_foreign_parquet_files_is_refused(tmp_path):
    (tmp_path / "theirs.parquet").touch()
    with pytest.raises(ConfigError, match="another origin"):
        plan.claim(str(tmp_path), {}, overwrite=False)


def test_an_output_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot (write to|list)"):
        plan.claim(str(tmp_path / "file" / "out"), {}, overwrite=False)


def test_what_was_asked_for_is_remembered_over_several_runs(shards, tmp_path):
    out = str(tmp_path / "out")
    plan.claim(out, {}, overwrite=False)
    plan.record_shards(out, plan.tasks(shards[:2]))
    plan.record_shards(out, plan.tasks(shards[1:]))
    recorded = json.loads((tmp_path / "out" / "_run" / "shards.json").read_text())
    assert [item["url"] for item in recorded] == shards


def test_fingerprints_follow_settings_not_paths():
    assert fingerprint(RunConfig(model="a").settings()) == fingerprint(
        RunConfig(model="b").settings()
    )
    for change in ({"steps": 4}, {"metrics": ("mse",)}, {"precision": "bf16"}, {"faces": "all"}):
        assert fingerprint(RunConfig(**change).settings()) != fingerprint(RunConfig().settings())


def test_differences_shorten_hashes():
    text = difference({"model": "a" * 64}, {"model": "b" * 64})
    assert text == f"model: {'a' * 12}… there, {'b' * 12}… now"


def test_unknown_metrics_and_step_counts_are_refused():
    with pytest.raises(ConfigError, match="unknown metric 'lpisp'; choose from mse"):
        RunConfig(metrics=("lpisp",))
    with pytest.raises(ConfigError, match="at least 1"):
        RunConfig(steps=0)
