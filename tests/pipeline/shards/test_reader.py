"""Shards of every kind: each sample once and in order, or one clear error."""

import gzip
import io
import lzma
import tarfile
import threading
import tracemalloc
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import webdataset

from pipeline.errors import ShardError
from pipeline.records import Status
from pipeline.shards import reader
from pipeline.shards.members import key_and_extension


def read(url):
    return list(reader.samples(str(url)))


@pytest.fixture
def serve():
    """Start HTTP servers on loopback; returns their address."""
    servers = []

    def start(handler):
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_members_with_one_key_are_one_sample(tmp_path, write_tar):
    members = [("a.jpg", b"1"), ("a.json", b"{}"), ("sub/b.png", b"2"), ("sub/b.txt", b"t")]
    samples = read(write_tar(tmp_path / "s.tar", members))
    assert [(s.index, s.key, s.image) for s in samples] == [(0, "a", b"1"), (1, "sub/b", b"2")]


def test_keys_are_those_of_webdataset(tmp_path, write_tar):
    names = [
        "a.jpg",
        "b.c.jpg",
        "d/e.f.g.png",
        "ü n.JPG",
        "x.y/z.webp",
        "x.y/z.cls",
        "v/1.2/a.b.png",
    ]
    path = write_tar(tmp_path / "s.tar", [(name, b"1") for name in names])
    expected = [sample["__key__"] for sample in webdataset.WebDataset(path, shardshuffle=False)]
    assert [s.key for s in read(path)] == expected


@pytest.mark.parametrize(
    ("name", "key", "extension"),
    [
        ("2023.01.05_12.30.11.jpg", "2023.01.05_12.30.11", "jpg"),
        ("d.1/2023.01.05.JPG", "d.1/2023.01.05", "jpg"),
        ("photo 1.5x.w.npy", "photo 1.5x", "w.npy"),
        ("clip.3gp", "clip", "3gp"),  # what follows the last dot is a type
        ("a.b.1.jpg", "a", "b.1.jpg"),
        ("v1.0/README", "v1.0/README", ""),
        ("n\nl.d/a.jpg", "n\nl.d/a", "jpg"),
        ("l\n1.5.jpg", "l\n1.5", "jpg"),
    ],
)
def test_a_dot_before_a_digit_belongs_to_the_key(name, key, extension):
    assert key_and_extension(name) == (key, extension)


def test_photos_named_by_date_are_samples(tmp_path, write_tar):
    names = [f"2023.01.05_12.30.{i}" for i in (11, 12, 13)]
    members = [(f"{n}.{e}", e.encode()) for n in names for e in ("jpg", "json")]
    path = write_tar(tmp_path / "s.tar", members)
    found = list(reader.samples(path, frozenset({"json"})))
    assert [(s.key, s.image, s.fields) for s in found] == [
        (name, b"jpg", {"json": b"json"}) for name in names
    ]


@pytest.mark.parametrize("last", ["a.jpg", "a.last.jpg"])
def test_many_images_of_one_sample_do_not_stay_in_memory(tmp_path, write_tar, last):
    blocks = [(f"a.x{i}.jpg", bytes(1 << 20)) for i in range(64)]
    path = write_tar(tmp_path / "s.tar", [*blocks, (last, b"1"), ("a.y.jpg", bytes(1 << 20))])
    tracemalloc.start()
    [sample] = read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20
    if last == "a.jpg":
        assert (sample.status, sample.image) == (Status.OK, b"1")
    else:
        assert sample.status == Status.AMBIGUOUS_IMAGE
        assert sample.error.startswith("66 images in one sample (.x0.jpg, .x1.jpg, ")
        assert " and 61 more); keep one, or pack them with `restyle pack`" in sample.error
        assert len(sample.error) < 300


def test_an_image_that_is_asked_for_as_a_field_stays(tmp_path, write_tar):
    members = [("a.b.jpg", b"1"), ("a.c.jpg", b"2"), ("a.jpg", b"3"), ("a.png", b"4")]
    path = write_tar(tmp_path / "s.tar", members)
    [sample] = reader.samples(path, frozenset({"c.jpg", "png"}))
    assert sample.status == Status.AMBIGUOUS_IMAGE
    assert sample.fields == {"c.jpg": b"2", "png": b"4"}


def test_no_member_is_lost(tmp_path, write_tar):
    members = [
        ("a.jpg", b"1"),
        ("b.txt", b"no image"),
        ("README", b"no extension"),
        ("c.jpg", b"2"),
        ("c.png", b"3"),
        ("d.jpg", b"4"),
        ("d.mask.png", b"5"),
        ("a.jpg", b"the key again, later"),
        ("a.jpg", b"and at once"),
    ]
    samples = read(write_tar(tmp_path / "s.tar", members))
    assert [(s.key, s.status) for s in samples] == [
        ("a", Status.OK),
        ("b", Status.MISSING_IMAGE),
        ("README", Status.MISSING_IMAGE),
        ("c", Status.AMBIGUOUS_IMAGE),
        ("d", Status.OK),
        ("a", Status.OK),
        ("a", Status.OK),
    ]
    assert samples[1].error.startswith("no image among its members (.txt); members of one key must")
    assert samples[3].error == "2 images in one sample (.jpg, .png); keep one"
    assert samples[4].image == b"4"


def test_metadata_and_hidden_files_are_no_samples(tmp_path, write_tar):
    names = ["._a.jpg", "x/.DS_Store", "__info__", "n\nl/.DS_Store", "a.jpg", "x/__new__/b.jpg"]
    samples = read(write_tar(tmp_path / "s.tar", [(n, b"1") for n in names]))
    assert [s.key for s in samples] == ["a", "x/__new__/b"]


def test_photos_in_folders_of_any_name_are_samples(tmp_path, write_tar):
    names = ["__raw__/a", "__raw__/__x__", "x/__raw__", "n\nl.d/a", "__x__\n"]
    samples = read(write_tar(tmp_path / "s.tar", [(f"{n}.jpg", b"1") for n in names]))
    assert [s.key for s in samples] == names


def test_links_and_giants_are_rows(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.shards.members.MAX_IMAGE_BYTES", 1000)
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for name, size in (("a.jpg", 10), ("b.jpg", 2000)):
            info = tarfile.TarInfo(name)
            info.size = size
            tar.addfile(info, io.BytesIO(b"x" * size))
        link = tarfile.TarInfo("c.jpg")
        link.type, link.linkname = tarfile.LNKTYPE, "a.jpg"
        tar.addfile(link)
    samples = read(tmp_path / "s.tar")
    assert [(s.key, s.status) for s in samples] == [
        ("a", Status.OK),
        ("b", Status.MISSING_IMAGE),
        ("c", Status.MISSING_IMAGE),
    ]
    assert "not a photo" in samples[1].error
    assert "link" in samples[2].error


def test_fields_that_are_asked_for_come_with_the_image(tmp_path, write_tar, monkeypatch):
    monkeypatch.setattr("pipeline.shards.members.MAX_FIELD_BYTES", 2 << 20)
    members = [
        ("a.JSON", b"{}"),
        ("a.jpg", b"1"),
        ("a.w.npy", b"w"),
        ("a.txt", b"not asked for"),
        ("b.jpg", b"2"),
        ("c.jpg", b"3"),
        ("c.json", b" " * (2 << 20) + b" "),
        ("d.json", b"no image"),
    ]
    path = write_tar(tmp_path / "s.tar", members)
    a, b, c, d = reader.samples(path, frozenset({"json", "w.npy", "cls"}))
    assert (a.image, a.fields) == (b"1", {"json": b"{}", "w.npy": b"w"})
    assert (b.image, b.fields) == (b"2", {})
    assert (c.image, c.status, c.fields) == (None, Status.FIELD_ERROR, {})
    assert c.error == ".json: a field of 2.0 MiB is above the limit of 2 MiB"
    assert (d.status, d.fields) == (Status.MISSING_IMAGE, {"json": b"no image"})
    assert [s.fields for s in read(path)] == [{}, {}, {}, {}]
    assert [s.status for s in read(path)][:3] == [Status.OK] * 3


def test_a_giant_photo_may_be_asked_for_as_a_field(tmp_path, write_tar, monkeypatch):
    monkeypatch.setattr("pipeline.shards.members.MAX_FIELD_BYTES", 10)
    path = write_tar(tmp_path / "s.tar", [("a.jpg", b"1" * 11)])
    [sample] = reader.samples(path, frozenset({"jpg"}))
    assert sample.fields["jpg"] == sample.image == b"1" * 11


def test_names_that_are_not_utf8_are_escaped(tmp_path):
    with tarfile.open(
        tmp_path / "s.tar", "w", encoding="latin-1", format=tarfile.GNU_FORMAT
    ) as tar:
        info = tarfile.TarInfo("caf\u00e9.jpg")
        info.size = 1
        tar.addfile(info, io.BytesIO(b"x"))
    [sample] = read(tmp_path / "s.tar")
    assert sample.key == r"caf\xe9"


def test_a_damaged_header_is_an_error(tmp_path, write_tar):
    path = Path(write_tar(tmp_path / "s.tar", [(f"{i}.jpg", b"x" * 100) for i in range(20)]))
    data = bytearray(path.read_bytes())
    data[5 * 1024 + 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ShardError, match="bad checksum at byte 5120"):
        read(path)


def test_two_tars_joined_are_an_error(tmp_path, write_tar):
    one = Path(write_tar(tmp_path / "1.tar", [("a.jpg", b"1")])).read_bytes()
    (tmp_path / "2.tar").write_bytes(one + one)
    with pytest.raises(ShardError, match="two tars joined"):
        read(tmp_path / "2.tar")


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress])
def test_compressed_shards(tmp_path, write_tar, compress):
    plain = Path(write_tar(tmp_path / "s.tar", [("a.jpg", b"1" * 5000)])).read_bytes()
    path = tmp_path / "c.tar.x"
    path.write_bytes(compress(plain))
    assert [s.image for s in read(path)] == [b"1" * 5000]
    path.write_bytes(compress(plain)[:-30])
    with pytest.raises(ShardError):
        read(path)


@pytest.mark.parametrize("part", [0.1, 0.25, 0.5, 0.9])
def test_a_truncated_shard_is_an_error_wherever_it_is_cut(tmp_path, write_tar, part):
    # Members that end in zeros look like a tar's end.
    members = [(f"{i}.jpg", b"x" * 100 + b"\0" * 1500) for i in range(20)]
    data = Path(write_tar(tmp_path / "s.tar", members)).read_bytes()
    cut = int(len(data.rstrip(b"\0")) * part)
    for length in (cut, cut // 512 * 512, cut // 2560 * 2560):
        (tmp_path / "cut.tar").write_bytes(data[:length])
        with pytest.raises(ShardError, match=r"cut\.tar is not a whole tar"):
            read(tmp_path / "cut.tar")


@pytest.mark.parametrize("content", [b"", b"not a tar at all" * 100, b"\x1f\x8bnot gzip"])
def test_what_is_no_tar_is_an_error(tmp_path, content):
    (tmp_path / "s.tar").write_bytes(content)
    with pytest.raises(ShardError):
        read(tmp_path / "s.tar")


def test_an_empty_tar_has_no_samples(tmp_path, write_tar):
    assert read(write_tar(tmp_path / "s.tar", [])) == []


def test_http(tmp_path, write_tar, serve):
    write_tar(tmp_path / "s.tar", [("a.jpg", b"1" * 3_000_000), ("b.jpg", b"2")])
    address = serve(partial(SimpleHTTPRequestHandler, directory=str(tmp_path)))
    assert [s.key for s in read(f"{address}/s.tar")] == ["a", "b"]
    with pytest.raises(ShardError, match="404"):
        read(f"{address}/absent.tar")


def test_http_that_breaks_off_is_an_error(tmp_path, write_tar, serve):
    # Cut between two members, where tarfile itself would see a good end.
    members = [(f"{i}.jpg", b"x" * 512) for i in range(9)]
    whole = Path(write_tar(tmp_path / "s.tar", members)).read_bytes()

    class BreaksOff(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(whole)))
            self.end_headers()
            self.wfile.write(whole[: 1024 * 4])

    with pytest.raises(ShardError, match="broke off"):
        read(f"{serve(BreaksOff)}/s.tar")


def test_pipe(tmp_path, write_tar):
    path = write_tar(tmp_path / "s.tar", [("a.jpg", b"1"), ("b.jpg", b"2" * 200_000)])
    assert [s.key for s in read(f"pipe:cat {path}")] == ["a", "b"]
    with pytest.raises(ShardError, match="ended with status 3"):
        read(f"pipe:cat {path}; exit 3")


def test_memory_does_not_grow_with_the_shard(tmp_path, write_tar):
    import tracemalloc

    path = write_tar(tmp_path / "s.tar", [(f"{i}.jpg", b"x" * 100_000) for i in range(300)])
    tracemalloc.start()
    assert sum(1 for _ in reader.samples(path)) == 300
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6
