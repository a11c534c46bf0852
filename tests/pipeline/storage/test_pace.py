"""Sources that never end or hardly move: one error that names the flag, and nothing that waits for ever."""

import io
import lzma
import os
import shlex
import socket
import tarfile
import threading
import time
import zlib

import pytest

from pipeline.config import ClusterConfig, RunConfig
from pipeline.errors import ConfigError, ShardError
from pipeline.inversion import run
from pipeline.shards import reader
from pipeline.storage import listing, pace, retry, xz
from pipeline.storage.pace import Limits, Pace

QUICK = Limits(least_speed=2000, window_s=0.4)


@pytest.fixture
def drip():
    """A server that answers a connection with parts, one after each pause; and its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()
    served = []

    def answer(connection, parts, pause):
        with connection:
            try:
                connection.recv(4096)
                for part in parts:
                    connection.sendall(part)
                    if ended.wait(pause):
                        return
                ended.wait()
            except OSError:
                served.append("cut")

    def start(parts, pause):
        def serve():
            while not ended.is_set():
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(
                    target=answer, args=(connection, parts(), pause), daemon=True
                ).start()

        threading.Thread(target=serve, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/s.tar"

    start.served = served
    yield start
    ended.set()
    listener.close()


def tar(n=1):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as file:
        for i in range(n):
            info = tarfile.TarInfo(f"{i}.jpg")
            info.size = 1000
            file.addfile(info, io.BytesIO(bytes(1000)))
    return data.getvalue()


def endless(head, part):
    yield head
    while True:
        yield part


HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
DRIPS = {
    "body": lambda: endless(HEAD + b"Content-Length: 10240\r\n\r\n", b"a"),
    "no length": lambda: endless(HEAD + b"\r\n", b"a"),
    "headers": lambda: endless(b"HTTP/1.1 200 OK\r\nX: ", b"a"),
    "status": lambda: endless(b"HTTP/1.1 ", b"2"),
    "chunks": lambda: endless(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
    "chunk header": lambda: endless(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;", b"a"),
    "silence": lambda: iter([HEAD + b"Content-Length: 10240\r\n\r\n"]),
    "member": lambda: endless(HEAD + b"Content-Length: 99999999\r\n\r\n" + tar()[:600], b"\0"),
}


@pytest.mark.parametrize("kind", DRIPS)
def test_a_server_that_drips_is_given_up(kind, drip):
    url = drip(DRIPS[kind], 0.02)
    start = time.monotonic()
    with pytest.raises(ShardError, match="too slow: .* --least-speed below 2000") as error:
        list(reader.samples(url, limits=QUICK))
    assert time.monotonic() - start < 3
    assert "127.0.0.1" in str(error.value)
    if kind in ("body", "member"):  # the connection ends with the reading
        until = time.monotonic() + 3
        while not drip.served and time.monotonic() < until:
            time.sleep(0.02)
        assert drip.served


def test_a_slow_server_above_the_least_speed_is_waited_for(drip):
    data = tar(3)
    size = b"Content-Length: %d\r\n\r\n" % len(data)

    def parts():
        yield HEAD + size
        for i in range(0, len(data), 512):
            yield data[i : i + 512]

    samples = reader.samples(drip(parts, 0.03), limits=QUICK)
    assert [sample.key for sample in samples] == ["0", "1", "2"]


def test_a_server_whose_first_bytes_come_one_by_one(drip):
    data = lzma.compress(tar(2))

    def parts():
        yield HEAD + b"\r\n"
        yield from (data[i : i + 1] for i in range(20))
        yield data[20:]
        raise OSError  # ends the connection

    samples = reader.samples(drip(parts, 0.005), limits=Limits(window_s=30))
    assert [sample.key for sample in samples] == ["0", "1"]


def test_a_reader_that_takes_its_time_is_no_slow_source(drip):
    data = tar(40)
    size = b"Content-Length: %d\r\n\r\n" % len(data)
    url = drip(lambda: iter([HEAD + size, data]), 0)
    n = 0
    for _ in reader.samples(url, limits=Limits(least_speed=10**6, window_s=0.3)):
        n += 1
        time.sleep(0.02)
    assert n == 40


@pytest.mark.parametrize(
    "command",
    [
        "sleep 60",
        "while :; do printf a; sleep 0.05; done",
        "cat {}; sleep 60",
        "cat {}; exec >&-; sleep 60",
    ],
)
def test_a_command_that_is_too_slow_ends(command, tmp_path):
    (tmp_path / "s.tar").write_bytes(tar())
    command = command.format(shlex.quote(str(tmp_path / "s.tar")))
    start = time.monotonic()
    with pytest.raises(ShardError, match="pipe:.* too slow: .*--least-speed"):
        list(reader.samples(f"pipe:{command}", limits=QUICK))
    assert time.monotonic() - start < 3


def test_what_never_ends_ends_with_the_time_for_a_shard():
    info = tarfile.TarInfo("a.bin")
    info.size = 2**39
    start = time.monotonic()
    head = "".join(f"\\{byte:03o}" for byte in info.tobuf(tarfile.GNU_FORMAT))
    command = f"printf '{head}'; cat /dev/zero"
    with pytest.raises(ShardError, match=r"not read to its end within 0.5 s.*--shard-timeout"):
        list(reader.samples(f"pipe:{command}", limits=Limits(total_s=0.5)))
    assert time.monotonic() - start < 5


def test_no_limit_waits(tmp_path):
    (tmp_path / "s.tar").write_bytes(tar())
    limits = Limits(least_speed=0, window_s=0.1)
    command = f"pipe:sleep 0.5; cat {shlex.quote(str(tmp_path / 's.tar'))}"
    assert len(list(reader.samples(command, limits=limits))) == 1


def test_a_check_does_not_wait_for_ever(drip, monkeypatch):
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(listing, "Limits", lambda: Limits(window_s=0.3))
    with pytest.raises(ConfigError, match="did not answer within 0.3 s"):
        listing.version(drip(DRIPS["headers"], 0.02))


def test_a_store_may_take_as_long_as_its_block_may():
    assert Limits(1000, 60).by_block(1_000_000).window_s == 1000
    assert Limits(1000, 60).by_block(10).window_s == 60
    assert Limits(0, 60).by_block(10**9).window_s == 60


def test_the_thread_ends_with_the_stream(tmp_path):
    (tmp_path / "s.tar").write_bytes(tar())
    for _ in range(5):
        list(reader.samples(f"pipe:cat {shlex.quote(str(tmp_path / 's.tar'))}"))
    until = time.monotonic() + 3
    while any(t.name == "source" for t in threading.enumerate()) and time.monotonic() < until:
        time.sleep(0.02)
    assert not any(t.name == "source" for t in threading.enumerate())


def test_errors_of_the_source_come_through():
    watched = Pace("http://x/s.tar", Limits())
    with pytest.raises(KeyError):
        watched.within(lambda: {}["a"])
    assert watched.within(lambda: 7) == 7
    watched.end()


def test_flags_reach_the_workers(tmp_path):
    cluster = ClusterConfig(least_speed=10, shard_timeout=100)
    limits = run.actor_config(RunConfig(), str(tmp_path), {}, cluster).limits
    assert limits == Limits(10, 60, 100)
    assert run.actor_config(RunConfig(), str(tmp_path), {}, ClusterConfig()).limits == Limits()
    assert pace.Limits().window_s == 60


def test_xz_is_read_within_bounds(tmp_path):
    data = os.urandom(1000) + bytes(1_000_000)
    several = lzma.compress(data) + bytes(8) + lzma.compress(b"more")
    assert xz.open(io.BytesIO(several)).read() == data + b"more"
    with pytest.raises(EOFError):
        xz.open(io.BytesIO(several[:-9])).read()
    with pytest.raises(lzma.LZMAError):
        xz.open(io.BytesIO(lzma.compress(data) + b"garbage")).read()
    small = bytearray(lzma.compress(tar(), filters=[{"id": lzma.FILTER_LZMA2, "preset": 0}]))
    # The size of the dictionary stands in the block's header: 1 GiB.
    small[12 + 4] = 36
    small[20:24] = zlib.crc32(bytes(small[12:20])).to_bytes(4, "little")
    (tmp_path / "s.tar.xz").write_bytes(small)
    with pytest.raises(ShardError, match="xz asks for more than 256 MiB of memory"):
        list(reader.samples(str(tmp_path / "s.tar.xz")))


def test_zstd_is_told_apart(tmp_path):
    (tmp_path / "s.tar.zst").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(600))
    with pytest.raises(ShardError, match="zstd -dc"):
        list(reader.samples(str(tmp_path / "s.tar.zst")))
