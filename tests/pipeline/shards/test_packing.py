"""Packing follows links, once, and leaves nothing of an earlier packing behind."""

import os
import tarfile

import pytest

from pipeline.errors import ConfigError
from pipeline.shards import packing, reader


@pytest.fixture
def photos(tmp_path, photo):
    folder = tmp_path / "photos"
    (folder / "part1").mkdir(parents=True)
    for i in range(5):
        (folder / "part1" / f"p{i}.png").write_bytes(photo(i))
    return folder


def keys(packed):
    return [sample.key for shard in packed.shards for sample in reader.samples(shard)]


def test_links_are_followed_once(photos, photo, tmp_path):
    (tmp_path / "disk2" / "deep").mkdir(parents=True)
    (tmp_path / "disk2" / "b.png").write_bytes(photo(9))
    (photos / "part2").symlink_to(tmp_path / "disk2")
    (photos / "again").symlink_to(photos / "part1")
    (tmp_path / "disk2" / "deep" / "up").symlink_to(photos)
    (tmp_path / "disk2" / "loop").symlink_to(tmp_path / "disk2")
    (photos / "part1" / "c.png").symlink_to("../.annex/objects/c.png")
    (photos / "file.png").symlink_to(tmp_path / "disk2" / "b.png")
    packed = packing.pack(str(photos), str(tmp_path / "sh" / "%06d.tar"), 100)
    assert keys(packed) == ["file", *(f"part1/p{i}" for i in range(5)), "part2/b"]
    assert sorted(packed.dangling) == ["again", "part1/c.png", "part2/deep/up", "part2/loop"]
    (tmp_path / "link").symlink_to(photos)
    assert len(keys(packing.pack(str(tmp_path / "link"), str(tmp_path / "l" / "%d.tar"), 100))) == 7


def test_withdrawn_photos_do_not_stay_in_later_shards(photos, tmp_path):
    pattern = str(tmp_path / "sh" / "%06d.tar")
    assert len(packing.pack(str(photos), pattern, 2).shards) == 3
    for i in (2, 3, 4):
        (photos / "part1" / f"p{i}.png").unlink()
    packed = packing.pack(str(photos), pattern, 2)
    assert keys(packed) == ["part1/p0", "part1/p1"]
    assert [name[-10:] for name in packed.removed] == ["000001.tar", "000002.tar"]
    assert [path.name for path in (tmp_path / "sh").iterdir()] == ["000000.tar"]


def test_a_number_that_is_missing_hides_no_later_shard(photos, tmp_path):
    pattern = str(tmp_path / "2024 sh" / "x%04d-1.tar")
    packing.pack(str(photos), pattern, 1)
    (tmp_path / "2024 sh" / "x0002-1.tar").unlink()
    (tmp_path / "2024 sh" / "x3-1.tar").write_bytes(b"not of this pattern")
    packed = packing.pack(str(photos), pattern, 3)
    assert [os.path.basename(path) for path in packed.removed] == ["x0003-1.tar", "x0004-1.tar"]
    names = sorted(path.name for path in (tmp_path / "2024 sh").iterdir())
    assert names == ["x0000-1.tar", "x0001-1.tar", "x3-1.tar"]


def test_a_tar_of_somebody_else_stays_and_is_named(photos, tmp_path):
    other = tmp_path / "sh" / "1.tar"
    other.parent.mkdir()
    with tarfile.open(other, "w") as tar:
        tar.add(photos / "part1" / "p0.png", "mine.png")
    packed = packing.pack(str(photos), str(tmp_path / "sh" / "%d.tar"), 100)
    assert (packed.removed, packed.foreign) == ([], [str(other)])
    assert other.exists()


def test_the_reader_drops_nothing_that_is_packed(tmp_path, photo):
    folders = ["__raw__", "n\nl.d", "v1.5", "ü {a,b}", "caf\udce9", "x/__meta__", " "]
    names = ["2023.01.05", "__x__", "a.b", "l\nn", "a, b", "~", "#1", "caf\udce9", " "]
    for folder in folders:
        (tmp_path / "photos" / folder).mkdir(parents=True)
        for name in names:
            (tmp_path / "photos" / folder / f"{name}.png").write_bytes(photo())
    packed = packing.pack(str(tmp_path / "photos"), str(tmp_path / "%d.tar"), 1000)
    found = list(reader.samples(packed.shards[0]))
    assert {sample.status for sample in found} == {"ok"}
    assert len({sample.key for sample in found}) == packed.n_images == len(folders) * len(names)


@pytest.mark.parametrize(
    "pattern",
    [
        "p%c.tar", "p%s%d.tar", "p%d%d.tar", "p%.tar", "p%x.tar", "p%999999999d.tar", "p%*d.tar",
        "s3://bucket/%d.tar", "pipe:cat > %d.tar", "http://host/%d.tar", "%d.tgz", "p%(a)d.tar",
    ],
)  # fmt: skip
def test_a_pattern_that_cannot_name_shards(photos, tmp_path, monkeypatch, pattern):
    monkeypatch.chdir(tmp_path)
    for samples in (100, 2):
        with pytest.raises(ConfigError, match="pattern|written to this machine"):
            packing.pack(str(photos), pattern, samples)
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_names_that_mean_something_elsewhere_are_names_here(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for pattern, name in (("a:b/%d.tar", "a:b/0.tar"), ("%%d.tar", "%d.tar"), ("#?.tar", "#?.tar")):
        packed = packing.pack(str(photos), pattern, 100)
        assert packed.shards == [name]
        assert (tmp_path / name).is_file()


def test_a_name_that_is_too_long_is_one_sentence(photos, tmp_path):
    with pytest.raises(ConfigError, match="File name too long"):
        packing.pack(str(photos), str(tmp_path / ("x" * 300 + "%d.tar")), 100)
