"""Photos where they lie: samples as of the packed tar, shards that stay the same, and what is refused."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from pipeline.errors import ConfigError, ShardError
from pipeline.shards import folders, inputs, packing, photo_shards, reader
from pipeline.shards.folders import PhotoFile, Photos
from pipeline.shards.photo_shards import PhotoShard
from pipeline.storage import redact

FIELDS = frozenset({"json", "txt", "cls"})


@pytest.fixture
def folder(tmp_path, photo):
    """Photos in subfolders with odd names, labels, and what is none."""
    root = tmp_path / "my photos #1"
    names = [
        "b.jpg", "b.png", "a.b.jpg", "a_b.png", "sub/2023.01.05.png", "sub/x&y?=%41.png", "sub.x/ü 'q'.PNG",
        "caf\udce9/e\udce8.png", "z/\n.png",
    ]  # fmt: skip
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"damaged" if name == "b.png" else photo(i))
    (root / "b.json").write_text('{"age": 3}')
    (root / "sub" / "2023.01.05.txt").write_text("a caption")
    (root / "sub" / "2023.01.05.cls").write_text("7")
    (root / "notes.txt").write_text("no label of a photo")
    (root / ".hidden.jpg").write_bytes(photo())
    (root / "nowhere.jpg").symlink_to("gone")
    return root


def packed(root, tmp_path, fields=FIELDS):
    shard = packing.pack(str(root), str(tmp_path / "packed" / "%d.tar"), 1000).shards[0]
    return list(reader.samples(shard, fields))


def found(*patterns):
    return inputs.expand([str(pattern) for pattern in patterns])


def keys(*patterns):
    sources = found(*patterns).versions
    return [sample.key for source in sources for sample in inputs.samples(source)]


def test_a_folder_gives_the_samples_of_its_packed_tar(folder, tmp_path):
    result = found(folder)
    [source] = result.versions
    assert list(inputs.samples(source, FIELDS)) == packed(folder, tmp_path)
    assert list(inputs.samples(source)) == packed(folder, tmp_path, frozenset())
    assert result.n_photos == 9
    assert sorted(result.skipped) == [".hidden.jpg", "notes.txt"]
    assert result.dangling == ["nowhere.jpg"]
    assert redact(source) == f"photos://{tmp_path}/my%20photos%20%231/"
    assert photo_shards.root_of(redact(source)) == str(folder)


def test_photos_by_name_give_the_same_samples(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    whole = packed(folder, tmp_path)
    names = [p for p in sorted(Path().rglob("*"), reverse=True) if folders.is_photo(str(p))]
    names = [p for p in names if p.is_file() and not p.name.startswith(".")]
    [source] = found(*names, names[0].resolve(), "b.json").versions  # as the shell expands a glob
    assert list(inputs.samples(source, FIELDS)) == whole
    assert "?list=" in redact(source)
    (tmp_path / "list.txt").write_bytes(
        b"\n".join(b'"' + os.fsencode(p) + b'"' for p in names if "\n" not in str(p))
    )
    assert keys(f"@{tmp_path / 'list.txt'}") == [s.key for s in whole if "\n" not in s.key]
    assert keys("sub/*.png") == [key.removeprefix("sub/") for key in keys(folder) if "sub/" in key]
    [one] = found("b.jpg").versions
    assert redact(one) == f"photos://{tmp_path}/my%20photos%20%231/b.jpg"
    assert [sample.key for sample in inputs.samples(one)] == ["b"]


def test_what_is_named_twice_is_read_once(folder):
    assert keys(folder, folder / "sub", folder / "b.jpg") == keys(folder)
    assert keys(folder / "sub", folder) == keys(folder)


def test_a_folder_of_photos_may_be_the_output_too(folder):
    before = keys(str(folder))
    (folder / "_run" / "logs").mkdir(parents=True)
    (folder / "_run" / "a.jpg").write_bytes(b"")
    assert keys(str(folder)) == before
    assert not [name for name in found(str(folder)).skipped if name.startswith("_run")]


def test_a_version_tells_every_change_and_needs_no_contents(folder):
    [source] = found(folder).versions
    version, state = inputs.version(source), inputs.state(source)
    assert found(folder).versions == {source: version}
    os.utime(folder / "b.json", (1, 1))
    assert inputs.version(source) != version  # labels are part of it
    version, state = inputs.version(source), inputs.state(source)
    before = (folder / "b.jpg").stat()
    (folder / "b.jpg").write_bytes(b"x" * before.st_size)
    os.utime(folder / "b.jpg", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert inputs.version(source) == version
    assert inputs.state(source) != state  # though the date was set back
    os.unlink(folder / "b.jpg")
    with pytest.raises(ConfigError, match="cannot be looked at"):
        inputs.version(source)
    with pytest.raises(ShardError, match="b.jpg cannot be read"):
        list(inputs.samples(source))
    # Copied with its dates it is the same content at another place.
    shutil.copytree(folder, folder.parent / "copy", symlinks=True)
    here, there = (dict(found(f).versions) for f in (folder, folder.parent / "copy"))
    assert [*here.values()] == [*there.values()]
    assert here.keys() != there.keys()


def test_photos_that_are_added_change_the_shards_that_they_fall_into():
    names = [f"{i // 1000:02}/{i:06}.jpg" for i in range(20_000)]

    def shards(names):
        files = [PhotoFile(name, folders.plain_key(name)) for name in names]
        return photo_shards.of_folder(Photos("/data", files))

    before = {shard.address: shard for shard in shards(names)}
    sizes = [len(shard.files) for shard in before.values()]
    assert sum(sizes) == len(names)
    assert max(sizes) <= photo_shards.MOST
    assert min(sizes[:-1]) >= photo_shards.LEAST
    assert 700 < sum(sizes) / len(sizes) < 1300
    assert next(iter(before)) == "photos:///data/"
    assert list(before)[1].startswith("photos:///data/?from=0")
    after = shards(sorted([*names, *(f"17/new{i}.jpg" for i in range(5))]))
    changed = [shard for shard in after if before.get(shard.address) != shard]
    assert 1 <= len(changed) <= 3
    assert [PhotoShard.of(shard.source) for shard in after] == after


def test_a_photo_that_nobody_may_read_is_a_row(photo):
    folder = Path(tempfile.mkdtemp())  # not below a folder of root alone
    user = os.geteuid()
    try:
        folder.chmod(0o755)
        (folder / "a.png").write_bytes(photo())
        (folder / "a.json").write_text("{}")
        (folder / "a.png").chmod(0)
        (folder / "locked").mkdir(0)
        os.seteuid(user or 65534)  # root may read everything
        result = found(folder)
        [sample] = inputs.samples(*result.versions, FIELDS)
    finally:
        os.seteuid(user)
        shutil.rmtree(folder)
    assert (sample.key, sample.status, sample.image) == ("a", "missing_image", None)
    assert "permission denied" in sample.error
    assert result.unreadable == ["locked"]


def test_what_is_no_input_is_refused_in_a_sentence(folder, tmp_path, photo, write_tar, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = {
        "list.txt": b"a.jpg\nb\n", "film.mp4": b"\0\0\0 ftypisom" + bytes(8), "film.mkv": b"\x1aE\xdf\xa3",
        "photo.bin": photo(), "photo.tar": photo(), "all.zip": b"PK\x03\x04", "empty": b"", "odd": b"\0\1\2",
        "notes.dat": "ünïcödé text!".encode(),
    }  # fmt: skip
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    for name in ("void/deep", "mixed", "run/_run", "tars/deep"):
        (tmp_path / name).mkdir(parents=True)
    write_tar(tmp_path / "mixed" / "s.tar", [("a.png", photo())])
    write_tar(tmp_path / "tars" / "deep" / "s.tar", [("a.png", photo())])
    (tmp_path / "mixed" / "a.png").write_bytes(photo())
    for name, says in {
        "list.txt": "is a text file, not a tar.*pass @list.txt",
        "notes.dat": "is a text file",
        "film.mp4": "is a video; pack its frames first: restyle pack film.mp4 .*--video",
        "film.mkv": "is a video",
        "photo.bin": "is a photo by its content.*rename it",
        "photo.tar": "is a photo by its content.*rename it",
        "all.zip": "is a zip archive; unpack it",
        "empty": "is empty",
        "odd": "is not a tar; leave it out: inputs are",
        "void": "the folder holds no tar, no Parquet file and no photo",
        "tars": r"its subfolders hold tars: pass 'tars/\*\*/\*.tar'",
        "mixed": r"holds tars and photos \(a.png\); pass the tars by 'mixed/\*.tar'",
        "run": "is the --out of a run",
        "gone.jpg": "no photo matches gone.jpg",
        "my photos #1/*": "also matches folders",
        "photos:///etc/": "pass the folder, or the photos, by their paths",
        "http://host/x.parquet": "download it",
        "https://host/a.jpg?x=1": "is a photo; photos are read from folders of this machine",
    }.items():
        with pytest.raises(ConfigError, match=says):
            found(name)
    with pytest.raises(ConfigError, match="list.txt is a text file"):
        found(folder / "b.jpg", "list.txt")
