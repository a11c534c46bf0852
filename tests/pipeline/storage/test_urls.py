"""No password and no signature is ever shown: not in an error, a log, a file or its footer."""

import functools
import os
import re
import subprocess
import sys
import tempfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pyarrow import fs as pafs
from stores import s3_server

from pipeline import errors, storage
from pipeline.storage.urls import is_remote, redact, redacted_message


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://id:SECRET@bucket/a.tar?endpoint_override=host", "s3://bucket/a.tar"),
        ("https://user:SECRET@host/a.tar?n=1&Signature=SECRET", "https://host/a.tar?n=1"),
        ("https://h/a.tar?sig=SECRET&apikey=SECRET&auth=SECRET", "https://h/a.tar"),
        ("sftp://user:SECRET@host/a.tar", "sftp://host/a.tar"),
        ("sftp://user@host/a.tar", "sftp://user@host/a.tar"),
        ("abfs://container@account/a.tar", "abfs://container@account/a.tar"),
        ("https://h/a.tar?n=1&private_token=SECRET&code=SECRET", "https://h/a.tar?n=1"),
        ("https://h/a.tar?client_secret=SECRET&X-Plex-Token=SECRET&user_token=SECRET&n=1", "https://h/a.tar?n=1"),
        ("s3://AKIA:abc/defSECRET@bucket/x.tar?region=x", "s3://bucket/x.tar"),
        ("http://[abc/x.tar", "http://[abc/x.tar"),
        ("http://[::1]:80/x.tar", "http://[::1]:80/x.tar"),
        ("pipe:curl -u me:SECRET https://h/a.tar", "pipe:curl *** https://h/a.tar"),
        ("pipe:curl https://me:SECRET@h/a.tar?sig=SECRET -s", "pipe:curl https://h/a.tar ***"),
        ("pipe:curl 'https://h/a.tar?n=1&sig=SECRET'", "pipe:curl https://h/a.tar?n=1"),
        ("pipe:curl me:p/SECRET@h/a.tar", "pipe:curl *** h/a.tar"),
        ("pipe:API_TOKEN='a SECRET' cat b.tar.gz", "pipe:*** b.tar.gz"),
        ("pipe:rclone cat ':sftp,pass=SECRET:/a.tar'", "pipe:rclone *** /a.tar"),
        ("pipe:cat /data/secrets/a.tar", "pipe:cat /data/secrets/a.tar"),
        ("pipe:aws s3 cp s3://bucket/key=1/a.tar -", "pipe:aws *** s3://bucket/key=1/a.tar ***"),
        ("/data/key=1/a.tar", "/data/key=1/a.tar"),
    ],
)  # fmt: skip
def test_urls_are_shown_without_secrets(url, shown):
    assert redact(url).startswith(shown)
    assert "SECRET" not in redact(url)
    assert redact(redact(url)) == redact(url)


@pytest.mark.parametrize(
    "words",
    [
        "-su user:SECRET", "-u 'user':'SECRET'", '-u user:"SECRET"', "--user 'user:pa SECRET'",
        "-H 'Authorization: Token SECRET'", "-H 'Authorization: Bearer  SECRET'", "--pass SECRET",
        "-H 'Authorization: AWS k:SECRET'", "-H 'Cookie: session=SECRET'", "-b sid=SECRET",
        "-H 'X-Auth-Key: SECRET'", "--sftp-pass SECRET", "-pSECRET", "--key=a/SECRET",
    ],
)  # fmt: skip
def test_commands_are_shown_by_what_they_read(words):
    assert redact(f"pipe:curl {words} 'https://h/a.tar'") == "pipe:curl *** https://h/a.tar"


@pytest.mark.parametrize(
    ("url", "text"),
    [
        (
            "https://h/a b.tar?token=SEC%20RET",
            "no control characters in '/a b.tar?token=SEC%20RET'",
        ),
        ("https://me:SECRET@h/a.tar", "nonnumeric port: 'SECRET@h'"),
        ("s3://id:SEC%2FRET@b/a.tar", "cannot parse s3://id:SEC%2FRET@b or SEC/RET"),
        ("s3://id:abc/SEC@b/a.tar", "no port in id:abc/SEC, s3://id:abc/SEC@b"),
        ("hf://datasets/u/r/a.tar", "403 for url: https://cdn/a?Signature=SEC&amp;Policy=SEC"),
        ("abfs://c@a/a.tar", "moved to (https://u:SEC@h/a,https://h/b?sig=SEC)"),
    ],
)
def test_errors_that_repeat_an_address_are_cleaned(url, text):
    assert redacted_message(OSError(), url) == "OSError"
    cleaned = redacted_message(OSError(f"{text}\nand more"), url)
    assert "SEC" not in cleaned
    assert cleaned.endswith("and more")
    assert "\n" not in cleaned


@pytest.mark.parametrize(
    "url",
    ["https://h:x/a b.tar?sig=SECRET", "s3://i:SECRET@b/a.tar?bad=1", "smb://u:SECRET@h/a.tar"],
)
def test_the_libraries_own_errors_are_cleaned(url):
    with pytest.raises(errors.ConfigError) as error:
        storage.version(url)
    assert "SECRET" not in str(error.value)


def test_what_is_an_address():
    assert all(map(is_remote, ["s3://b/k", "hf://x", "pipe:cat x", "http://h", "file:///x"]))
    assert not any(map(is_remote, ["a.tar", "/a/b:c.tar", "C:/a.tar", "a//b"]))


@pytest.fixture
def web(tmp_path):
    """The address of a web server that shows the test's folder."""
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_a_run_tells_no_secret(tmp_path, write_tar, photo, tiny_inverter, web):
    shard = write_tar(tmp_path / "s.tar", [("a.png", photo()), ("b.jpg", b"no image")])
    (tmp_path / "cut.tar").write_bytes(Path(shard).read_bytes()[:2000])
    with s3_server() as (_, address), tempfile.TemporaryDirectory(prefix="r") as ray_folder:
        files, _ = storage.filesystem(address("in/s.tar"))
        with files.open_output_stream("data/in/s.tar") as stream:
            stream.write(Path(shard).read_bytes())
        command = [
            sys.executable, "-m", "jobs", "invert", address("in/s.tar"), f"{web}/s.tar?sig=WEBSECRET",
            f"{web}/cut.tar?X-Amz-Signature=WEBSECRET", f"pipe:API_TOKEN=PIPESECRET cat {shard}",
            "--out", address("out"), "--model", str(tiny_inverter), "--steps", "1",
            "--align", "none", "--metrics", "mse",
        ]  # fmt: skip
        environment = {**os.environ, "RAY_TMPDIR": ray_folder, "AWS_SECRET_ACCESS_KEY": "ENVSECRET"}
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=300, check=False
        )
        shown = [done.stdout + done.stderr]
        assert done.returncode == 1, shown
        assert "3 shards, 6 samples" in done.stdout
        assert re.search(r"unfinished: http://.*/cut.tar: ShardError", done.stderr)
        listed = files.get_file_info(pafs.FileSelector("data/out", recursive=True))
        paths = [info.path for info in listed if info.type == pafs.FileType.File]
        assert sum(path.endswith(".parquet") for path in paths) == 3
        for path in paths:
            with files.open_input_file(path) as file:
                shown.append(file.read().decode("latin-1"))
            if path.endswith(".parquet"):  # its columns are compressed
                shown += map(
                    str, pq.read_table(path, filesystem=files).drop(["latent"]).to_pylist()
                )
        shown += [
            path.read_text(errors="replace")
            for path in Path(ray_folder).rglob("*")
            if path.is_file() and path.suffix in {".log", ".out", ".err", ".json", ".txt"}
        ]
        assert len(shown) > 15  # Ray's logs among them
        assert [text[:500] for text in shown if "SECRET" in text] == []
