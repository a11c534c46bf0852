"""Stores by fsspec: folders, caches and exceptions of their own; and addresses that are none."""

import os
from functools import partial

import fsspec
import pytest
from stores import FolderStore

from pipeline import storage
from pipeline.engine import audit, progress, quarantine, run_folder
from pipeline.engine.progress import RunLog
from pipeline.engine.quarantine import CrashRecorder, CrashSearch
from pipeline.engine.run_folder import RunFolder
from pipeline.errors import ConfigError
from pipeline.storage import retry
from pipeline.storage.sources import FileSource

run_log = partial(RunLog, last_waits_s=(0.0, 0.0, 0.0))


@pytest.fixture
def out(tmp_path, monkeypatch):
    """A folder of the moody store, made ready as a run does, with one shard in it."""
    fsspec.register_implementation("moody", FolderStore, clobber=True)
    monkeypatch.setattr(FolderStore, "n", 0)
    monkeypatch.setattr(FolderStore, "at", "")
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.01)
    (tmp_path / "s.tar").write_bytes(b"shard")
    found = f"moody://{tmp_path}"
    RunFolder(found).require_writable()
    return found


def fail(n, at=""):
    FolderStore.n, FolderStore.at = n, at


@pytest.mark.parametrize(
    "ask",
    [
        lambda out: RunFolder(out).committed(),
        lambda out: RunFolder(out).require_writable(),
        audit.files,
        lambda out: storage.version(f"{out}/s.tar"),
        lambda out: storage.expand([f"{out}/*.tar"]),
        lambda out: RunFolder(out).require_compatible({}, overwrite=True),
        lambda out: RunFolder(out).write_run_record({}, [], overwrite=False),
        lambda out: audit.with_rows(out, ["s.tar"], {"ok"}),
        lambda out: CrashRecorder(out, "s.parquet", CrashSearch()).note(0, 1),
    ],
)
def test_every_exception_becomes_a_sentence(out, ask):
    fail(99)
    with pytest.raises(ConfigError, match="cannot") as error:
        ask(out)
    assert "SECRET" not in str(error.value)


def test_what_verify_cannot_read_is_a_problem(out):
    fail(1, "s.tar")
    [found] = audit.verify(out, ["s.tar"])
    assert "SECRET" not in found.problems[0]
    assert found.problems[0].startswith("s.tar: cannot be read (GET https://host/ failed)")


def test_journals_and_notes_that_fail_end_no_run(out):
    fail(99)
    with run_log(out, 1, 0):
        assert quarantine.pop_last_position(out, "s.parquet") is None
        assert progress.read(out) is None


def test_folders_are_made_for_logs_and_notes(out, tmp_path):
    with run_log(out, 1, 0) as log:
        assert progress.read(out).run == log.run
    assert progress.read(out).state == "finished"
    [path] = (tmp_path / "_run" / "logs").iterdir()
    assert path.read_text().count("\n") == 2
    CrashRecorder(out, "s.parquet", CrashSearch()).note(8, 15)
    assert quarantine.pop_last_position(out, "s.parquet") == (8, 15)


def test_the_last_lines_are_tried_again_and_hold_nothing_back(out, tmp_path):
    with run_log(out, 1, 0):
        fail(99, "logs/")
    assert progress.read(out).state == "finished"
    assert not (tmp_path / "_run" / "logs").exists() or not [*(tmp_path / "_run/logs").iterdir()]
    fail(0)
    with run_log(out, 1, 0):
        fail(3, "logs/")
    [path] = (tmp_path / "_run" / "logs").iterdir()
    assert path.read_text().count("\n") == 2


def test_a_lost_connection_is_no_change(out):
    fail(2, "s.tar")
    known = storage.version(f"{out}/s.tar", retry_unreachable=True)
    source = FileSource(f"{out}/s.tar")
    source.at(0).close()
    assert storage.version(f"{out}/s.tar") == known


def test_what_has_changed_is_seen(out, tmp_path):
    known = storage.version(f"{out}/s.tar")
    (tmp_path / "s.tar").write_bytes(b"another")
    assert storage.version(f"{out}/s.tar") != known


@pytest.mark.parametrize(
    "url", ["http://[abc/x.tar", "s3://[abc/x.tar", "s3://bucket[12]/x.tar", "s3://b*/x.tar"]
)
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(ConfigError, match="cannot|name one bucket"):
        run_folder.tasks([url], "0")


@pytest.mark.parametrize("out", ["s3://bucket[12]/out", "s3://[abc/out"])
def test_an_output_that_is_none_is_refused(out):
    with pytest.raises(ConfigError, match="cannot open s3://"):
        RunFolder(out).committed()


@pytest.mark.parametrize("folder", ["set{a,b}", "run{1", "a*b", "x[1]", "~", "a b"])
def test_what_is_there_is_taken_as_it_is(tmp_path, monkeypatch, folder):
    """The shell has expanded the names already."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "0.tar").touch()
    assert [*storage.expand([f"{folder}/0.tar"])] == [str(tmp_path / folder / "0.tar")]
    assert [*storage.expand([folder])] == [str(tmp_path / folder / "0.tar")]


def test_a_glob_that_is_too_wide_is_refused(tmp_path):
    for name in ("00000.tar", "00000_stats.json", "00000.parquet"):
        (tmp_path / name).touch()
    with pytest.raises(
        ConfigError, match=r"not a tar \(00000.parquet, 00000_stats.json\).*\*\.tar"
    ):
        storage.expand([f"{tmp_path}/*"])
    assert len(storage.expand([f"{tmp_path}/*.tar"])) == 1


def test_a_name_that_is_no_text_is_refused_in_printable_words(tmp_path):
    folder = os.fsdecode(os.fsencode(str(tmp_path)) + b"/fotos_caf\xe9")
    os.mkdir(folder)
    open(f"{folder}/0.tar", "w").close()
    with pytest.raises(ConfigError, match="is not named in UTF-8; rename") as error:
        storage.expand([f"{folder}/*.tar"])
    str(error.value).encode()
