"""What is left to do, and what is refused."""

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline import storage
from pipeline.config import RunConfig, difference, fingerprint
from pipeline.engine import run_folder
from pipeline.engine.run_folder import RunFolder
from pipeline.errors import ConfigError

RUN = "0123456789abcdef"


@pytest.fixture
def shards(tmp_path, write_tar):
    folder = tmp_path / "shards"
    folder.mkdir()
    return [write_tar(folder / f"{i:03}.tar", [("a.jpg", b"1")]) for i in range(3)]


def urls(*patterns):
    return [task.source for task in run_folder.tasks(patterns, RUN)]


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
        ("http://127.0.0.1:9/a b.tar", "cannot reach"),
        ("http://user:secret@127.0.0.1:9/x.tar", "contains a user name"),
        ("shards/{000..002.tar", "braces"),
    ],
)
def test_a_pattern_that_matches_nothing_is_refused(shards, tmp_path, monkeypatch, pattern, says):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=says) as error:
        run_folder.tasks([pattern], RUN)
    assert "secret" not in str(error.value)


def test_names_depend_on_url_content_and_settings(shards):
    first, second, _ = run_folder.tasks(shards, RUN)
    assert first.output != second.output
    assert run_folder.tasks(shards, RUN)[0] == first
    assert run_folder.tasks(shards, "other settings")[0].output != first.output
    os.utime(shards[0], ns=(1, 1))
    changed = run_folder.tasks(shards, RUN)[0]
    assert changed.output.split(".")[:2] == first.output.split(".")[:2]
    assert changed.output != first.output


def test_many_shards_have_many_names():
    names = {
        run_folder.task(f"s3://bucket/shards/{i:05}.tar", "", RUN).output for i in range(20_000)
    }
    assert len({name.split(".")[1] for name in names}) == 20_000


def test_names_do_not_depend_on_credentials():
    signed = run_folder.task("https://host/a.tar?X-Amz-Signature=secret&X-Amz-Date=1", "", RUN)
    assert (
        signed.output == run_folder.task("https://host/a.tar?X-Amz-Signature=other", "", RUN).output
    )
    one, two = (run_folder.task(f"https://host/get?file={i}.tar&sig=x", "", RUN) for i in (1, 2))
    assert one.output != two.output


def test_two_shards_that_cannot_be_told_apart_are_refused(monkeypatch):
    monkeypatch.setattr(storage, "version", lambda url, _: "")
    with pytest.raises(ConfigError, match="two shards have the same address, https://host/a.tar"):
        run_folder.tasks([f"https://host/a.tar?token={i}" for i in range(2)], RUN)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://id:secret@bucket/a.tar?endpoint_override=host", "s3://bucket/a.tar"),
        ("https://user:secret@host/a.tar?n=1&Signature=secret", "https://host/a.tar?n=1"),
        ("pipe:curl -H 'Cookie: secret' https://h/a.tar", "pipe:curl *** https://h/a"),
        ("/data/key=1/a.tar", "/data/key=1/a.tar"),
    ],
)
def test_urls_are_shown_without_secrets(url, shown):
    assert storage.redact(url).startswith(shown)
    assert "secret" not in storage.redact(url)


def test_pending_leaves_out_what_is_committed(shards, tmp_path):
    asked = run_folder.tasks(shards, RUN)
    assert RunFolder(str(tmp_path / "out")).pending(asked) == asked
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / asked[1].output).write_bytes(b"PAR1" * 3)
    assert RunFolder(str(tmp_path / "out")).pending(asked) == [asked[0], asked[2]]


def test_a_changed_shard_is_refused(shards, tmp_path):
    asked = run_folder.tasks(shards, RUN)
    (tmp_path / asked[0].output).touch()
    os.utime(shards[0], ns=(1, 1))
    with pytest.raises(ConfigError, match=r"000\.tar has changed since.*delete 000\."):
        RunFolder(str(tmp_path)).pending(run_folder.tasks(shards, RUN))


def test_a_folder_of_other_settings_is_refused_with_the_difference(tmp_path):
    out = str(tmp_path / "out")
    RunFolder(out).require_writable()
    RunFolder(out).write_run_record(RunConfig(steps=5).settings(), [], overwrite=False)
    RunFolder(out).write_run_record(RunConfig(steps=5).settings(), [], overwrite=False)
    with pytest.raises(ConfigError, match=r"\(steps: 5 there, 3 now\)"):
        RunFolder(out).write_run_record(RunConfig(steps=3).settings(), [], overwrite=False)
    (tmp_path / "out" / "old.parquet").touch()
    RunFolder(out).write_run_record(RunConfig(steps=3).settings(), [], overwrite=True)
    assert RunFolder(out).committed() == []


def test_an_empty_file_under_a_shards_name_is_noticed(tmp_path, shards):
    asked = run_folder.tasks(shards, RUN)
    folder = RunFolder(str(tmp_path / "out"))
    folder.require_writable()
    (tmp_path / "out" / asked[1].output).write_bytes(b"PAR1")
    with pytest.raises(ConfigError, match=r"is not a Parquet file \(4 bytes\); delete it"):
        folder.pending(asked)


def test_a_folder_of_foreign_parquet_files_is_refused(tmp_path):
    (tmp_path / "theirs.parquet").touch()
    with pytest.raises(ConfigError, match="that no run recorded"):
        RunFolder(str(tmp_path)).require_compatible({}, overwrite=False)


def test_an_output_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot (write to|list)"):
        RunFolder(str(tmp_path / "file" / "out")).require_writable()


def test_what_was_asked_for_is_remembered_over_several_runs(shards, tmp_path):
    out = str(tmp_path / "out")
    RunFolder(out).require_writable()

    def recorded():
        records = json.loads((tmp_path / "out" / "_run" / "shards.json").read_text())
        assert all(item.keys() == {"url", "identity", "output"} for item in records)  # as ever
        return [item["url"] for item in records]

    RunFolder(out).write_run_record({}, run_folder.tasks(shards[:2], RUN), overwrite=False)
    os.utime(shards[1], ns=(1, 1))  # inverted again after its file was deleted
    RunFolder(out).write_run_record({}, run_folder.tasks(shards[1:], RUN), overwrite=False)
    assert recorded() == shards
    RunFolder(out).write_run_record({}, run_folder.tasks(shards[:1], RUN), overwrite=True)
    assert recorded() == shards[:1]
    assert sorted(os.listdir(tmp_path / "out" / "_run")) == ["settings.json", "shards.json"]


def test_a_damaged_record_is_said(tmp_path):
    (tmp_path / "_run").mkdir()
    (tmp_path / "_run" / "settings.json").touch()
    with pytest.raises(ConfigError, match="cannot read .*settings.json"):
        RunFolder(str(tmp_path)).require_compatible({}, overwrite=False)


def test_fingerprints_follow_settings_not_paths():
    assert fingerprint(RunConfig(model="a").settings()) == fingerprint(
        RunConfig(model="b").settings()
    )
    for change in ({"steps": 4}, {"metrics": ("mse",)}, {"precision": "bf16"}, {"faces": "all"}):
        assert fingerprint(RunConfig(**change).settings()) != fingerprint(RunConfig().settings())


def test_a_bound_is_a_setting_only_where_it_is_asked_for():
    assert "bound" not in RunConfig().settings()
    assert [RunConfig(bound=s).settings()["bound"] for s in (0, 3)] == [0.0, 3.0]
    for limit in (-1, float("nan"), 1e9):
        with pytest.raises(ConfigError, match="--bound must be 0 to 1000"):
            RunConfig(bound=limit)


def test_differences_shorten_hashes():
    text = difference({"model": "a" * 64}, {"model": "b" * 64})
    assert text == f"model: {'a' * 12}… there, {'b' * 12}… now"


def test_unknown_metrics_and_step_counts_are_refused():
    with pytest.raises(ConfigError, match="unknown metric 'lpisp'; choose from mse"):
        RunConfig(metrics=("lpisp",))
    assert RunConfig(metrics=("psnr", "mse", "mse")) == RunConfig(metrics=("mse", "psnr"))
    with pytest.raises(ConfigError, match="1 to 1000"):
        RunConfig(steps=0)


def test_of_two_runs_that_come_at_once_one_is_refused(shards, tmp_path):
    asked = run_folder.tasks(shards, RUN)
    for number in range(20):
        out = str(tmp_path / f"out{number}")
        both = threading.Barrier(2)

        def begin(steps, out=out, both=both):
            both.wait()
            try:
                RunFolder(out).write_run_record({"steps": steps}, asked, overwrite=False)
            except ConfigError as error:
                return str(error)
            return steps

        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(begin, (2, 3)))
        [steps] = [answer for answer in answers if isinstance(answer, int)]
        [why] = [answer for answer in answers if isinstance(answer, str)]
        assert "different settings (steps: " in why
        assert RunFolder(out).settings() == {"steps": steps}
        assert not list((tmp_path / f"out{number}" / "_run").glob("settings.json.*"))


def test_an_output_that_is_a_file_is_told_so(tmp_path):
    (tmp_path / "latents.parquet").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"latents.parquet is a file, where a folder is meant"):
        RunFolder(str(tmp_path / "latents.parquet")).committed()
