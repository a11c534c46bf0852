"""A file appears whole or not at all, and takes the place of nothing but a file."""

import os
from pathlib import Path

import pytest

from generators.files import atomic


def test_it_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"old")
    with atomic.written(path) as part:
        part.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    with pytest.raises(ValueError, match="bad"), atomic.written(path) as part:
        int(f"bad{part.write_bytes(b'half')}")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["f"]


def test_what_is_no_regular_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("/dev/null")
    for name in ("pipe", "folder", "link"):
        with pytest.raises(OSError, match="not a regular file"):
            atomic.write_bytes(tmp_path / name, b"x")
    assert Path("/dev/null").is_char_device()


def test_a_link_stays_a_link_to_the_new_file(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    atomic.write_bytes(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"
