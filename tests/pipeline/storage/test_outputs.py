"""Where a file or a folder cannot be written is said before anything is computed for it."""

import os

import pytest

from pipeline.errors import ConfigError
from pipeline.storage import outputs
from pipeline.storage.filesystems import filesystem, listed
from pipeline.storage.folder import Folder
from pipeline.storage.listing import real_paths
from pipeline.storage.sources import FileSource
from pipeline.storage.urls import path_of

LONG = "x" * 300


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("/dev/null")
    os.mkfifo(tmp_path / "pipe")


def test_what_can_be_written_is_a_path_whose_folder_is_there(tmp_path):
    assert outputs.writable_file("a/b/r.html") == (tmp_path / "a/b/r.html").relative_to(tmp_path)
    assert (tmp_path / "a/b").is_dir()
    assert outputs.writable_file("file")  # replaced
    assert list(outputs.writable_folder("new").iterdir()) == []


@pytest.mark.parametrize(
    ("out", "says"),
    [
        (LONG, "File name too long"),
        (f"{LONG}/r.html", "File name too long"),
        ("file/r.html", "Not a directory"),
        ("folder", "is a folder; pass a file, such as --out folder/r.html"),
        ("link", "a device or a pipe"),
        ("/dev/full", "a device or a pipe"),
        ("pipe", "a device or a pipe"),
        ("/dev/null/r.html", "Not a directory"),
        ("/proc/r.html", "cannot write"),
        ("s3://bucket/r.html", "is not a local file"),
    ],
)
def test_a_file_that_cannot_be_written(out, says):
    with pytest.raises(ConfigError, match=says):
        outputs.writable_file(out, "r.html")


@pytest.mark.parametrize("out", [LONG, "file", "file/x", "/dev/null", "/proc/x", "gs://b/x"])
def test_a_folder_that_cannot_be_written(out):
    with pytest.raises(ConfigError, match="cannot write|is not a local folder"):
        outputs.writable_folder(out)


def test_a_name_that_is_not_utf8_is_said_of_its_folder():
    with open(b"folder/caf\xe9.txt", "w"):
        pass
    with pytest.raises(ConfigError, match=r"folder holds a file whose name is not UTF-8.*rename"):
        Folder("folder").names()
    files, path = filesystem("folder")
    from pyarrow import fs

    with pytest.raises(ConfigError, match="rename"):
        listed(files, fs.FileSelector(path), "folder")


@pytest.mark.parametrize("path", ["pipe", "/dev/zero", "folder"])
def test_a_shard_is_a_regular_file(path):
    with pytest.raises(Exception, match="is not a regular file") as refused:
        FileSource(path).at(0)
    assert path in str(refused.value)


def test_what_no_file_can_be_named_has_no_other_name():
    names = ["a\0b/x.tar", f"/{LONG}", "http://["]
    assert [path.replace("//x", "/x") for path in real_paths(names)] == names


@pytest.mark.parametrize("url", ["http://[", "s3://[x/a.tar", "http://[::1/a.tar?sig=1"])
def test_an_address_that_cannot_be_taken_apart_has_a_path_all_the_same(url):
    assert path_of(url) == url.partition("?")[0]
