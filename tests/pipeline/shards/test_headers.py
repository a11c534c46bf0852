"""Headers made to harm: a tar of some kilobytes takes no gigabytes and no days, and says why."""

import gzip
import io
import tarfile
import time
import tracemalloc

import pytest

from pipeline.errors import ShardError
from pipeline.records import Status
from pipeline.shards import headers, reader

END = bytes(1024)


def header(name, size, kind=tarfile.REGTYPE, **more):
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    for attribute, value in more.items():
        setattr(info, attribute, value)
    return info.tobuf(tarfile.GNU_FORMAT)


def padded(data):
    return data + bytes(-len(data) % 512)


def described(kind, data):
    return header("x", len(data), kind) + padded(data)


def record(keyword, value):
    rest = len(keyword) + len(value) + 3
    n = rest + len(str(rest))
    n += len(str(n)) - len(str(rest))
    return f"{n} {keyword}=".encode() + value + b"\n"


PHOTO = header("a.jpg", 3) + padded(b"abc")


@pytest.fixture
def refused(tmp_path):
    """Read a shard and demand one sentence, at once, in little memory."""

    def read(parts, says):
        with gzip.open(tmp_path / "s.tar.gz", "wb", 1) as file:
            for part in parts:
                file.write(part)
        start = time.monotonic()
        tracemalloc.start()
        with pytest.raises(ShardError, match=says) as error:
            list(reader.samples(str(tmp_path / "s.tar.gz")))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 24 << 20
        assert time.monotonic() - start < 10
        assert len(str(error.value)) < 500 + len(str(tmp_path))
        return str(error.value)

    return read


KINDS = {
    "pax": tarfile.XHDTYPE,
    "global": tarfile.XGLTYPE,
    "solaris": tarfile.SOLARIS_XHDTYPE,
    "name": tarfile.GNUTYPE_LONGNAME,
    "link": tarfile.GNUTYPE_LONGLINK,
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_header_of_megabytes_is_refused_before_it_is_read(kind, refused):
    block = bytes(1 << 20)
    size = 64 << 20
    parts = [header("x", size, kind), *[block] * 64, PHOTO, END]
    assert "shorter names" in refused(parts, "a header of 64.0 MiB")
    refused([header("x", 10**12 if kind != b"x" else 8**11 - 1, kind), PHOTO, END], "a header of")


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_headers_before_headers_are_counted(kind, refused):
    one = described(kind, record("comment", b"x"))
    refused([one * 5000, PHOTO, END], "more than 16 headers before one member")


def test_global_headers_between_members_add_up_to_nothing(tmp_path):
    value = b"x" * 500_000
    with gzip.open(tmp_path / "s.tar.gz", "wb", 1) as file:
        for i in range(60):
            file.write(described(tarfile.XGLTYPE, record(f"comment{i}", value)))
            file.write(header(f"{i}.jpg", 3) + padded(b"abc"))
        file.write(END)
    tracemalloc.start()
    assert sum(1 for _ in reader.samples(str(tmp_path / "s.tar.gz"))) == 60
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 24 << 20


@pytest.mark.parametrize(
    "data",
    [
        b"1" * 1_000_000,
        b"1" * 1_000_000 + b" a=b\n",
        b"0 a=b\n",
        b"3 a=b\n",
        b"999 path=b.jpg\n",
        b"\xff\xfe",
        b"-5 a=b\n",
        b"10 abcdefg\n",
    ],
    ids=range(8),
)
def test_a_damaged_pax_header_takes_no_time(data, refused):
    refused([described(tarfile.XHDTYPE, data), PHOTO, END], "a damaged pax header")


@pytest.mark.parametrize("size", [b"1" * 5000, b"-1", b"1e3", b"99999999999999999999", b""])
def test_a_size_in_a_pax_header_that_is_none(size, refused):
    refused([described(tarfile.XHDTYPE, record("size", size)), PHOTO, END], "a member whose size")


@pytest.mark.parametrize("size", [2**39, 2**62, 2**80, -512])
def test_a_member_that_claims_any_size(size, refused):
    refused([header("a.bin", size), END], "ends inside a member|size is given as")
    if size > 0:
        text = record("size", str(size).encode())
        refused([described(tarfile.XHDTYPE, text), PHOTO], "ends inside a member|whose size")


def test_a_sparse_file_is_a_row(tmp_path, refused):
    old = bytearray(header("b.jpg", 3, tarfile.GNUTYPE_SPARSE))
    old[482] = 1  # the map goes on
    old[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(old))[0]
    goes_on = bytearray(512)
    goes_on[504] = 1
    maps = bytes(goes_on) * 3 + bytes(512)
    text = record("GNU.sparse.major", b"1") + record("GNU.sparse.name", b"c.jpg")
    text += record("GNU.sparse.realsize", b"99999999999999")
    new = described(tarfile.XHDTYPE, text) + header("x/c.jpg", 3) + padded(b"abc")
    (tmp_path / "s.tar").write_bytes(PHOTO + bytes(old) + maps + padded(b"abc") + new + END)
    found = [(s.key, s.status) for s in reader.samples(str(tmp_path / "s.tar"))]
    assert found == [("a", Status.OK), ("b", Status.MISSING_IMAGE), ("c", Status.MISSING_IMAGE)]
    refused([bytes(old), bytes(goes_on) * 100_000], "a sparse file of more parts")


def test_names_are_those_that_tarfile_finds(tmp_path):
    names = [
        "é" * 200 + ".jpg",
        "b/" * 90 + "c.jpg",
        "d.jpg",
        "e" * 99 + ".jpg",
        "x" * 3000 + ".jpg",
    ]
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        with tarfile.open(
            tmp_path / "s.tar", "w", format=form, pax_headers={"comment": "all"}
        ) as tar:
            for name in names:
                info = tarfile.TarInfo(name)
                info.size, info.mtime = 3, 1.5
                tar.addfile(info, io.BytesIO(b"abc"))
        found = [s.key + ".jpg" for s in reader.samples(str(tmp_path / "s.tar"))]
        assert found == names


def test_one_key_holds_so_many_names_and_bytes(refused, monkeypatch, tmp_path):
    monkeypatch.setattr(reader, "MAX_NAME_BYTES", 1 << 20)
    many = b"".join(header(f"a.x{i}", 0) for i in range(5000))
    assert "restyle pack" in refused([many, END], "too many members of one key")
    monkeypatch.setattr("pipeline.shards.members.MAX_SAMPLE_BYTES", 1000)
    texts = b"".join(header(f"a.x{i}.txt", 600) + bytes(1024) for i in range(20))
    (tmp_path / "s.tar").write_bytes(texts + PHOTO + END)
    fields = frozenset(f"x{i}.txt" for i in range(20))
    sample = next(iter(reader.samples(str(tmp_path / "s.tar"), fields)))
    assert sample.status != Status.OK
    assert "above 1 GiB" in sample.error


def test_zeros_without_end_behind_the_end(refused, monkeypatch):
    monkeypatch.setattr(reader, "MAX_PADDING_BYTES", 8 << 20)
    refused([PHOTO, *[bytes(1 << 20)] * 16], "goes on with zeros")


def test_a_name_like_all_others_is_refused(refused):
    text = described(tarfile.XGLTYPE, record("path", b"b.jpg"))
    refused([text, PHOTO, END], "names all members alike")
    assert headers.MAX_HEADER_BYTES == 1 << 20
