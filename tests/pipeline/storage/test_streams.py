"""Web servers that break off, throttle or change their mind: every byte once, or one clear error."""

import os
import random
import re
import select
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pipeline import storage
from pipeline.errors import ConfigError, ShardError
from pipeline.shards import reader
from pipeline.storage import retry, stream

BLOCK = 1 << 16


class Site:
    """What a server has and does."""

    def __init__(self):
        self.data, self.cut_at, self.n_cuts = b"", 0, 0
        self.tag = '"1"'  # the ETag; None for a server that sends none
        self.has_ranges = True
        self.statuses = []  # answered before anything else
        self.is_closed = False  # connections are, without an answer
        self.asked = []  # Range headers


@pytest.fixture
def site(monkeypatch):
    """A web server; what it has, and the address of its shard."""
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(stream, "READ_BLOCK", BLOCK)
    monkeypatch.setattr(reader, "READ_BLOCK", BLOCK)
    found = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.answer(is_head=False)

        def do_HEAD(self):
            self.answer(is_head=True)

        def answer(self, is_head):
            asked = self.headers.get("Range")
            found.asked.append(asked)
            if found.is_closed:
                self.close_connection = True
                return
            if found.statuses:
                self.send_response(found.statuses.pop(0))
                self.send_header("Retry-After", "0")
                self.end_headers()
                return
            first = 0
            if asked and found.has_ranges and self.headers.get("If-Range") in (None, found.tag):
                first = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
                self.send_response(206)
                size = len(found.data)
                self.send_header("Content-Range", f"bytes {first}-{size - 1}/{size}")
            else:
                self.send_response(200)
            if found.tag:
                self.send_header("ETag", found.tag)
            self.send_header("Content-Length", str(len(found.data) - first))
            self.end_headers()
            if is_head:
                return
            end = len(found.data)
            if found.n_cuts and first <= found.cut_at:
                found.n_cuts -= 1
                end = found.cut_at
            self.wfile.write(found.data[first:end])

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
    found.url = f"http://127.0.0.1:{server.server_port}/s.tar?token=PASSSECRET"
    yield found
    server.shutdown()
    server.server_close()


@pytest.fixture
def samples(site, tmp_path, write_tar):
    """What the shard of the site holds."""
    source = random.Random(0)
    members = [(f"{i:02}.jpg", source.randbytes(source.randrange(20_000))) for i in range(60)]
    with open(write_tar(tmp_path / "s.tar", members), "rb") as file:
        site.data = file.read()
    return [(f"{i:02}", data) for i, (_, data) in enumerate(members)]


def read(url):
    return [(sample.key, sample.image) for sample in reader.samples(url)]


@pytest.mark.parametrize("has_ranges", [True, False])
@pytest.mark.parametrize("part", [0, 0.1, 0.25, 0.5, 0.9])
def test_a_stream_that_breaks_gives_every_sample_once(site, samples, part, has_ranges):
    site.cut_at, site.n_cuts, site.has_ranges = int(len(site.data) * part), 3, has_ranges
    assert read(site.url) == samples
    assert site.n_cuts == 0
    assert len(site.asked) == 4


def test_a_meter_tells_how_far_a_shard_was_read(tmp_path, write_tar):
    members = [(f"{i}.jpg", bytes(3 * stream.READ_BLOCK)) for i in range(4)]
    meter = stream.Meter()
    shares = []
    for _ in reader.samples(write_tar(tmp_path / "s.tar", members), meter=meter):
        shares.append(meter.share)
    assert meter.n_in_all == (tmp_path / "s.tar").stat().st_size
    assert shares == sorted(shares)
    assert 0.2 < shares[0] < 0.6
    assert meter.share == 1
    piped = stream.Meter()
    assert list(reader.samples(f"pipe:cat {tmp_path / 's.tar'}", meter=piped))
    assert piped.share == 0  # a command does not tell its length


def test_breaks_with_progress_between_them_do_not_add_up(site, samples, monkeypatch):
    monkeypatch.setattr(retry, "N_TRIES", 2)
    for part in (0.2, 0.5, 0.8):
        site.cut_at, site.n_cuts = int(len(site.data) * part), 1
        assert read(site.url) == samples
    site.n_cuts = 2
    with pytest.raises(ShardError, match=r"broke off at byte \d+: it ended \d+ bytes before"):
        read(site.url)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_waited_for(site, samples, status):
    site.statuses = [status] * 3
    assert read(site.url) == samples
    site.statuses = [status] * 3
    assert storage.version(site.url) == f'size={len(site.data)} tag="1"'
    site.statuses = [status] * 100
    with pytest.raises(ShardError, match=f"cannot read http.*{status}") as error:
        read(site.url)
    assert len(site.statuses) == 100 - retry.N_TRIES
    assert "SECRET" not in str(error.value)
    with pytest.raises(ConfigError, match=f"cannot reach .*{status}") as error:
        storage.version(site.url)
    assert "SECRET" not in str(error.value)


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_what_will_not_come_back_is_not_waited_for(site, samples, status):
    site.statuses = [status] * 10
    with pytest.raises(ShardError, match=f"cannot read http.*{status}"):
        read(site.url)
    assert len(site.statuses) == 9


@pytest.mark.parametrize("has_ranges", [True, False])
def test_a_file_that_changes_meanwhile_is_an_error(site, samples, has_ranges):
    site.cut_at, site.n_cuts, site.has_ranges = len(site.data) // 2, 1, has_ranges
    stream = reader.samples(site.url)
    next(stream)
    site.tag = '"2"'
    with pytest.raises(ShardError, match="s.tar has changed while it was read"):
        list(stream)


def test_a_server_that_tells_no_version_is_not_trusted_with_the_rest(site, samples):
    site.cut_at, site.n_cuts, site.tag = len(site.data) // 2, 1, None
    with pytest.raises(
        ShardError, match="does not tell whether the rest would be of the same file"
    ):
        read(site.url)


def test_a_check_may_be_patient_with_a_lost_connection(site, samples, monkeypatch):
    known = storage.version(site.url)
    monkeypatch.setattr(retry.time, "sleep", lambda _: setattr(site, "is_closed", False))
    site.is_closed = True
    with pytest.raises(ConfigError, match="cannot reach"):
        storage.version(site.url)
    assert storage.version(site.url, retry_unreachable=True) == known


def test_what_a_command_has_started_ends_with_it(tmp_path):
    shard = tmp_path / "s.tar"
    shard.write_bytes(b"no tar" * 9999)
    os.mkfifo(tmp_path / "held")
    with open(os.open(tmp_path / "held", os.O_RDONLY | os.O_NONBLOCK), "rb") as held:
        # The sleep holds one end of the fifo, and the other end learns when it is gone.
        command = f"exec 3>{tmp_path / 'held'}; sleep 60 >&3 & cat {shard}"
        with pytest.raises(ShardError, match="not a whole tar"):
            read(f"pipe:{command}")
        assert select.select([held], [], [], 30)[0]


def test_waits_grow_and_end(monkeypatch):
    waits = []
    monkeypatch.setattr(retry.time, "sleep", waits.append)
    found, refused = retry.Retry(), ShardError("refused")
    for _ in range(retry.N_TRIES - 1):
        found.wait_or_raise(OSError("busy"), refused)
    with pytest.raises(ShardError, match="refused"):
        found.wait_or_raise(OSError("busy"), refused)
    assert waits == sorted(waits)
    assert 0.25 <= waits[0] <= 0.5
    assert sum(waits) < 16


@pytest.mark.parametrize(
    "error",
    [FileNotFoundError(2, "x"), OSError(28, "no space"), OSError("AWS Error ACCESS_DENIED")],
)
def test_what_is_not_worth_waiting_for(error):
    assert not retry.is_transient(error)
    assert retry.is_transient(OSError("AWS Error SLOW_DOWN"))
    assert retry.is_transient(ConnectionResetError(104, "reset"))
