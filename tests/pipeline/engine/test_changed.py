"""A folder whose photos come and go, inverted again and again: each photo has its rows once."""

import random
from collections import Counter

import pyarrow.parquet as pq
import pytest
from latent_folders import failed, write_file

from pipeline.engine import run_folder
from pipeline.engine.run_folder import RunFolder
from pipeline.errors import ConfigError
from pipeline.latents import footer
from pipeline.shards import inputs, photo_shards
from pipeline.shards.photo_shards import PhotoShard
from pipeline.storage import redact

RUN = "0123456789abcdef"


@pytest.fixture
def small_shards(monkeypatch):
    """Of two to four photos."""
    monkeypatch.setattr(photo_shards, "LEAST", 2)
    monkeypatch.setattr(photo_shards, "MOST", 4)
    monkeypatch.setattr(photo_shards, "ONE_IN", 3)


def finish(folder, patterns, redo_changed=False):
    """Plan, record and commit as a run does; returns what was pending."""
    planned = folder.planned(run_folder.tasks(patterns, RUN), redo_changed=redo_changed)
    found = planned.found
    folder.write_run_record({}, planned.tasks, False, found.gone, found.changed)
    for task in planned.pending:
        shard = PhotoShard.of(task.source)
        record = inputs.footer(task.source, task.version)
        rows = [failed(i, file.key) for i, file in enumerate(shard.files)]
        write_file(folder.path, task.output, rows, shard=redact(task.source), **record)
    return planned.pending


def two_photos(tmp_path):
    """A folder of two photos, and a run that has finished it."""
    photos, folder = tmp_path / "photos", RunFolder(str(tmp_path / "out"))
    photos.mkdir()
    for name in "ab":
        (photos / f"{name}.jpg").write_bytes(b"1")
    folder.require_writable()
    finish(folder, [str(photos)])
    return photos, folder


def photos_of(folder):
    """How often each photo is in the files of a run."""
    counts = Counter()
    for name in folder.committed():
        record = footer(pq.read_metadata(f"{folder.path}/{name}"))
        root = photo_shards.root_of(record["shard"])
        counts.update(f"{root}/{photo_shards.unquoted(name)}" for name in record["photos"])
    return counts


def test_each_photo_has_its_rows_once_whatever_comes_and_goes(small_shards, tmp_path):
    photos, folder = tmp_path / "photos", RunFolder(str(tmp_path / "out"))
    draw = random.Random(0)
    for i in range(20):
        (photos / f"{i % 3}").mkdir(parents=True, exist_ok=True)
        (photos / f"{i % 3}" / f"{i:02}.jpg").write_bytes(b"1")
    folder.require_writable()
    n_first, n_again = len(finish(folder, [str(photos)])), 0
    for round_ in range(25):
        there = sorted(photos.rglob("*.jpg"))
        draw.choice(there).unlink()
        (photos / f"{draw.randrange(3)}" / f"{draw.randrange(10**6)}.jpg").write_bytes(b"12")
        with pytest.raises(ConfigError, match="pass --redo-changed, which does so"):
            finish(folder, [str(photos)])
        n_again += len(finish(folder, [str(photos)], redo_changed=True))
        assert finish(folder, [str(photos)]) == [], round_
        counts = photos_of(folder)
        there = {str(path) for path in photos.rglob("*.jpg")}
        assert {path: counts[path] for path in there} == dict.fromkeys(there, 1), round_
    assert n_again < 25 * n_first * 0.8  # not all of them each time


def test_photos_by_name_add_to_a_run_and_are_not_inverted_twice(tmp_path):
    folder = RunFolder(str(tmp_path / "out"))
    names = [str(tmp_path / f"{name}.jpg") for name in "abc"]
    for name in names:
        open(name, "wb").close()
    folder.require_writable()
    assert len(finish(folder, names[:1])) == len(finish(folder, names[1:2])) == 1
    assert finish(folder, names[:1]) == []
    with pytest.raises(ConfigError, match=r"a.jpg are asked for in another shard now \(and 1 more"):
        finish(folder, names)
    assert len(finish(folder, names, redo_changed=True)) == 1
    assert photos_of(folder) == dict.fromkeys(names, 1)
    with pytest.raises(
        ConfigError, match=r"b.jpg was inverted before, together with .*a.jpg.*leave"
    ):
        finish(folder, names[1:], redo_changed=True)


def test_photos_under_another_name_are_not_inverted_twice(tmp_path):
    photos, folder = two_photos(tmp_path)
    (tmp_path / "link").symlink_to(photos)
    assert finish(folder, [str(tmp_path / "link")]) == []
    photos.rename(tmp_path / "moved")
    assert finish(folder, [str(tmp_path / "moved")]) == []
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to(tmp_path / "moved")
    (tmp_path / "moved" / "c.jpg").write_bytes(b"1")
    with pytest.raises(ConfigError, match="--redo-changed"):
        finish(folder, [str(tmp_path / "link")])
    assert len(folder.committed()) == 1


def test_a_link_to_a_photo_is_that_photo(tmp_path):
    folder = RunFolder(str(tmp_path / "out"))
    (tmp_path / "a.jpg").write_bytes(b"1")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "a.jpg")
    folder.require_writable()
    finish(folder, [str(tmp_path / "a.jpg")])
    with pytest.raises(ConfigError, match=r"a.jpg are asked for in another shard now"):
        finish(folder, [str(tmp_path / "link.jpg")])


def test_a_folder_that_was_moved_and_changed_is_told(tmp_path):
    photos, folder = two_photos(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.jpg").write_bytes(b"22")
    found = folder.planned(run_folder.tasks([str(other)], RUN)).found
    assert found.perhaps_moved == []  # both are there: two folders whose photos are named alike
    photos.rename(tmp_path / "moved")
    (tmp_path / "moved" / "c.jpg").write_bytes(b"1")
    found = folder.planned(run_folder.tasks([str(tmp_path / "moved")], RUN)).found
    assert found.perhaps_moved == [(str(photos), str(tmp_path / "moved"))]
