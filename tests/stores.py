"""Stores that fail where a test says so: S3 on loopback, one of fsspec's; and a GCS server."""

import functools
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import ClassVar

from fsspec.implementations.local import LocalFileSystem

BUSY = (
    b'<?xml version="1.0"?><Error><Code>SlowDown</Code>'
    b"<Message>Please reduce your request rate.</Message></Error>"
)
# In a process of its own, for pyarrow's GCS client holds the interpreter while it waits for an answer.
GCS_SERVER = """
import sys, time
from http.server import ThreadingHTTPServer
import gcp_storage_emulator.server as emulator
emulator.server.HTTPServer = ThreadingHTTPServer
emulator.create_server("127.0.0.1", int(sys.argv[1]), in_memory=True, default_bucket="data").start()
time.sleep(600)
"""


@dataclass
class Fault:
    """What becomes of the next ``n`` requests that match."""

    method: str
    key: str  # part of the path
    status: int | None = None  # answered instead of the store
    cut_at: int | None = (
        None  # byte of the object at which its answer ends and the connection closes
    )
    n: int = 1


@dataclass
class FaultyStore:
    """WSGI application before the store's own."""

    store: object
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)  # method, path

    def __call__(self, environ, start_response):
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.requests.append((method, path))
        first = int(environ.get("HTTP_RANGE", "bytes=0-").removeprefix("bytes=").split("-")[0])
        fault = next((f for f in self.faults if self._hits(f, method, path, first)), None)
        if fault and fault.status:
            fault.n -= 1
            start_response(f"{fault.status} Fault", [("Content-Type", "application/xml")])
            return [] if method == "HEAD" else [BUSY]
        body = self.store(environ, start_response)
        if fault is None:
            return body
        data = b"".join(body)
        if first + len(data) <= fault.cut_at:
            return [data]
        fault.n -= 1
        return [data[: fault.cut_at - first]]

    def _hits(self, fault, method, path, first):
        is_past = fault.cut_at is not None and first > fault.cut_at
        return fault.n > 0 and fault.method == method and fault.key in path and not is_past


@functools.cache
def tries_once(scheme, bucket, options):
    """In place of `filesystems._object_store`: an S3 client that does not retry by itself."""
    from pyarrow import fs as pafs

    options = dict(field.split("=") for field in options.split("&"))
    user, password = bucket.split("@")[0].split(":")
    once = pafs.AwsStandardS3RetryStrategy(max_attempts=1)
    return pafs.S3FileSystem(access_key=user, secret_key=password, retry_strategy=once, **options)


@contextmanager
def s3_server():
    """The application, and a function from keys to s3:// addresses with a password in them."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from pyarrow import fs as pafs
    from werkzeug.serving import make_server

    app = FaultyStore(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    options = f"scheme=http&endpoint_override=127.0.0.1:{server.port}&region=us-east-1"
    files, _ = pafs.FileSystem.from_uri(f"s3://u:p@data?{options}&allow_bucket_creation=true")
    files.create_dir("data")
    yield app, lambda key: f"s3://AKIDSECRET:PASSSECRET@data/{key}?{options}"
    # What moto stores belongs to the process, not to the server.
    reset = f"http://127.0.0.1:{server.port}/moto-api/reset"
    urllib.request.urlopen(urllib.request.Request(reset, method="POST")).close()
    server.shutdown()


class StoreError(Exception):
    """No OSError: the package of each store has exceptions of its own."""


class FolderStore(LocalFileSystem):
    """moody:///path, through fsspec: real folders, as of SFTP, and a cache of its own, as of hf://."""

    protocol = "moody"
    at: ClassVar[str] = ""  # part of the paths at which calls fail
    n: ClassVar[int] = 0  # the next n of them

    def __init__(self, **options):
        super().__init__(**options)
        self.dircache = {}

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("moody://"))

    def _may_fail(self, path):
        if self.at in path and FolderStore.n:
            FolderStore.n -= 1
            raise StoreError("GET https://u:SECRET@host/?sig=SECRET failed")

    def info(self, path, **options):
        self._may_fail(path)
        if path not in self.dircache:
            self.dircache[path] = super().info(path, **options)
        return self.dircache[path]

    def invalidate_cache(self, path=None):
        self.dircache.clear()

    def ls(self, path, *args, **options):
        self._may_fail(path)
        return super().ls(path, *args, **options)

    def _open(self, path, *args, **options):
        self._may_fail(path)
        return super()._open(path, *args, **options)


@contextmanager
def gcs_server():
    """A function from keys to gs:// addresses."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-c", GCS_SERVER, str(port)], stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.1)
        options = f"scheme=http&endpoint_override=127.0.0.1:{port}&retry_limit_seconds=5"
        yield lambda key: f"gs://anonymous@data/{key}?{options}"
    finally:
        process.kill()
        process.wait()
