"""What all kinds of workers share, shown by a third kind, which is as small as one can be."""

import os
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from stores import Fault, s3_server, tries_once

from pipeline import storage
from pipeline.engine import run_folder
from pipeline.engine.local import LocalHost
from pipeline.engine.tasks import InThisProcess
from pipeline.engine.worker import Work, Worker, WorkerConfig
from pipeline.errors import ConfigError, OutOfMemory, ShardError
from pipeline.latents import footer
from pipeline.shards import inputs, photo_shards, reader
from pipeline.storage import filesystems, retry

COLUMNS = pa.schema([("key", pa.string()), ("status", pa.string())])


@dataclass(frozen=True, kw_only=True)
class KeysConfig(WorkerConfig):
    raises: Exception | None = None

    @property
    def worker_class(self):
        return Keys


class Keys(Worker):
    """Writes the keys of a shard."""

    def load_models(self) -> None:
        """There is none."""

    @contextmanager
    def start(self, task, stopwatch, recorder) -> Iterator[Work]:
        yield KeysOfShard(task.source, self._config.raises)


@dataclass
class KeysOfShard:
    shard: str
    raises: Exception | None
    columns = COLUMNS
    n_samples = 0

    def batches(self) -> Generator[pa.RecordBatch, None, None]:
        for sample in inputs.samples(self.shard):
            self.n_samples += 1
            yield pa.record_batch([[sample.key], [str(sample.status)]], schema=COLUMNS)
            if self.raises is not None:
                raise self.raises

    def footer(self):
        return {"kind": "keys"}


@pytest.fixture
def data(tmp_path, write_tar):
    members = [(f"{name}.jpg", b"bytes") for name in "abc"] + [("d.txt", b"text")]
    return Path(write_tar(tmp_path / "s.tar", members)).read_bytes()


def work_on(url, out, **settings):
    """A loaded worker and its one task."""
    config = KeysConfig(out=str(out), settings={"a": 1}, n_threads=1, **settings)
    worker = Keys(config, LocalHost(InThisProcess()))
    assert "pid" in worker.load()
    [task] = run_folder.tasks([url], "0123456789abcdef")
    return worker, task


pytestmark = pytest.mark.usefixtures("one_thread")


def test_rows_are_committed_and_counted(data, tmp_path):
    worker, task = work_on(str(tmp_path / "s.tar"), tmp_path / "out")
    report = worker.process(task)
    assert (report.n_samples, report.n_by_status) == (4, {"ok": 3, "missing_image": 1})
    assert worker.n_rows() == 4
    table = pq.read_table(tmp_path / "out" / task.output)
    assert table["key"].to_pylist() == list("abcd")
    found = footer(pq.read_metadata(tmp_path / "out" / task.output))
    assert found["kind"] == "keys"
    assert found["identity"] == {"a": 1}
    assert found["n_by_status"] == report.n_by_status
    assert found["input_identity"] == task.version


@pytest.mark.parametrize(
    ("raised", "seen"),
    [
        (ConfigError("no store"), ShardError),
        (OutOfMemory("too large"), OutOfMemory),
        (RuntimeError("of the model"), RuntimeError),
    ],
)
def test_what_fails_leaves_nothing(data, tmp_path, raised, seen):
    worker, task = work_on(str(tmp_path / "s.tar"), tmp_path / "out", raises=raised)
    with pytest.raises(seen, match=str(raised)):
        worker.process(task)
    assert not list((tmp_path / "out").glob("*.parquet"))
    assert not list((tmp_path / "out" / "_run" / "parts").iterdir())


def test_a_source_that_changed_meanwhile_is_an_error(data, tmp_path):
    shard = tmp_path / "s.tar"
    worker, task = work_on(str(shard), tmp_path / "out")
    shard.write_bytes(data + bytes(1024))
    with pytest.raises(ShardError, match="has changed since the run began"):
        worker.process(task)
    assert not list((tmp_path / "out").glob("*.parquet"))


def test_the_last_check_waits_for_a_source_that_is_out_of_reach(data, tmp_path, monkeypatch):
    """After hours of work: one answer that fails must not cost them."""
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(filesystems, "_object_store", tries_once)
    with s3_server() as (app, address):
        files, path = storage.filesystem(address("in/s.tar"))
        with files.open_output_stream(path) as stream:
            stream.write(data)
        worker, task = work_on(address("in/s.tar"), tmp_path / "out")
        read = reader.samples

        def then_unreachable(url, *more):
            yield from read(url, *more)
            app.faults = [Fault("HEAD", "s.tar", status=500, n=2)]

        monkeypatch.setattr(reader, "samples", then_unreachable)
        assert worker.process(task).n_samples == 4
        assert app.faults[0].n == 0
        app.faults = []


BROKEN = """
import sys, torch
from pipeline.engine.worker import Worker, WorkerConfig

def synchronize():
    if sys.argv[1] == "broken":
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

class Failing(Worker):
    def load_models(self): ...
    def start(self, *_):
        raise RuntimeError("of this task")

class FailingConfig(WorkerConfig):
    worker_class = Failing

torch.cuda.is_available, torch.cuda.synchronize = (lambda: True), synchronize
try:
    Failing(FailingConfig(out=sys.argv[2], settings={})).process(None)
except RuntimeError as error:
    print(error)
    sys.exit(3)
"""


@pytest.mark.parametrize(("device", "status"), [("broken", 1), ("well", 3)])
def test_a_worker_whose_device_is_broken_leaves_the_pool(tmp_path, device, status):
    """Every later task would fail there; a new process may find a device that works."""
    command = [sys.executable, "-c", BROKEN, device, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (status, "")
    assert done.stdout == ("of this task\n" if device == "well" else "")


def test_a_source_whose_date_was_set_back_is_an_error(data, tmp_path, monkeypatch):
    shard = tmp_path / "s.tar"
    worker, task = work_on(str(shard), tmp_path / "out")
    read = reader.samples

    def changed_meanwhile(url, *more):
        yield from read(url, *more)
        dates = shard.stat()
        shard.write_bytes(data[:-1] + b"x")
        os.utime(shard, ns=(dates.st_atime_ns, dates.st_mtime_ns))

    monkeypatch.setattr(reader, "samples", changed_meanwhile)
    with pytest.raises(ShardError, match="has changed since the run began"):
        worker.process(task)
    assert not list((tmp_path / "out").glob("*.parquet"))


def test_photos_that_change_meanwhile_are_an_error(tmp_path, monkeypatch):
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in "ab":
        (photos / f"{name}.jpg").write_bytes(b"bytes")
    worker, task = work_on(str(photos), tmp_path / "out")
    read = photo_shards.read

    def changed_meanwhile(path):
        found = read(path)
        dates = os.stat(path)
        Path(path).write_bytes(b"other")
        os.utime(path, ns=(dates.st_atime_ns, dates.st_mtime_ns))
        return found

    with monkeypatch.context() as patched:
        patched.setattr(photo_shards, "read", changed_meanwhile)
        with pytest.raises(ShardError, match="/photos/ has changed since the run began"):
            worker.process(task)
    assert not list((tmp_path / "out").glob("*.parquet"))
    assert worker.process(task).n_by_status == {"ok": 2}
