"""Shards in, Parquet out on servers that speak S3's and Google's protocols, and that fail now and then."""

import random

import numpy as np
import pytest
from pyarrow import fs as pafs
from stores import Fault, gcs_server, s3_server, tries_once

from pipeline import LatentDataset, storage
from pipeline.config import RunConfig
from pipeline.engine import run_folder
from pipeline.errors import ConfigError, ShardError
from pipeline.latents import schema
from pipeline.latents.schema import Row
from pipeline.latents.writer import ShardWriter
from pipeline.records import AlignedFace, Status
from pipeline.shards import reader
from pipeline.storage import filesystems, listing, retry, stream
from pipeline.storage.sources import FileSource

RUN = "0123456789abcdef"
BLOCK = 1 << 16
PARTS = (0.1, 0.25, 0.5, 0.9)
ALWAYS = 10**6


@pytest.fixture(scope="module")
def server():
    with s3_server() as found:
        yield found


@pytest.fixture
def store(server, monkeypatch):
    """The server without faults; requests are small, waiting is short, pyarrow itself tries once."""
    monkeypatch.setattr(filesystems, "_object_store", tries_once)
    monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(stream, "STORE_BLOCK", BLOCK)
    monkeypatch.setattr(stream, "READ_BLOCK", BLOCK)
    monkeypatch.setattr(reader, "READ_BLOCK", BLOCK)
    monkeypatch.setattr(listing, "N_WORTH_LISTING", 12)
    app, address = server
    app.faults, app.requests = [], []
    return app, address


@pytest.fixture
def tar(tmp_path, write_tar):
    """Bytes of a shard of 60 samples, and the samples."""
    source = random.Random(0)
    members = [(f"{i:02}.jpg", source.randbytes(source.randrange(20_000))) for i in range(60)]
    with open(write_tar(tmp_path / "s.tar", members), "rb") as file:
        return file.read(), [(f"{i:02}", data) for i, (_, data) in enumerate(members)]


def put(address, data):
    files, path = storage.filesystem(address)
    with files.open_output_stream(path) as stream:
        stream.write(data)


def names(address):
    files, path = storage.filesystem(address)
    infos = files.get_file_info(pafs.FileSelector(path, recursive=True, allow_not_found=True))
    return sorted(info.path for info in infos if info.type == pafs.FileType.File)


def read(url):
    return [(sample.key, sample.image) for sample in reader.samples(url)]


def write(address, name="s.parquet", n=3):
    """Commit a file of n rows with latents."""
    config = RunConfig(align="none", metrics=())
    writer = ShardWriter(address, name, "s.tar", schema.schema(config, 2, 3))
    latents = [np.full((1, 2, 3), i, np.float32) for i in range(n)]
    faces = [AlignedFace(i, f"k{i}", Status.OK) for i in range(n)]
    writer.add([Row(f, f.status, None, x) for f, x in zip(faces, latents, strict=True)])
    try:
        writer.commit({"fingerprint": "f"})
    finally:
        writer.abandon()


@pytest.mark.parametrize("part", PARTS)
def test_a_stream_that_breaks_gives_every_sample_once(store, tar, part):
    app, address = store
    data, samples = tar
    put(address("in/s.tar"), data)
    app.faults = [Fault("GET", "s.tar", cut_at=int(len(data) * part), n=2)]
    app.requests.clear()
    assert read(address("in/s.tar")) == samples
    assert app.faults[0].n == 0
    # It was opened three times, and what had come before the break was not read again.
    assert app.requests.count(("HEAD", "/data/in/s.tar")) == 3
    n_reads = sum(method == "GET" for method, _ in app.requests)
    assert n_reads <= len(data) // BLOCK + 1 + 2


def test_a_stream_that_breaks_for_good_is_an_error(store, tar):
    app, address = store
    put(address("in/s.tar"), tar[0])
    app.faults = [Fault("GET", "s.tar", cut_at=200_000, n=ALWAYS)]
    with pytest.raises(ShardError, match=r"s3://data/in/s.tar broke off at byte \d+") as error:
        read(address("in/s.tar"))
    assert "SECRET" not in str(error.value)


def test_throttling_is_waited_for(store, tar):
    app, address = store
    put(address("busy/s.tar"), tar[0])
    app.faults = [Fault(method, "s.tar", status=503, n=2) for method in ("GET", "HEAD")]
    assert read(address("busy/s.tar")) == tar[1]
    app.faults = [Fault("GET", "/data", status=503, n=2)]
    [task] = run_folder.tasks([address("busy/*.tar")], RUN)
    assert task.version == storage.version(task.source)


def test_a_shard_that_is_replaced_while_it_is_read_is_an_error(store, tar):
    app, address = store
    data, _ = tar
    put(address("in/s.tar"), data)
    app.faults = [Fault("GET", "s.tar", cut_at=len(data) // 2)]
    samples = reader.samples(address("in/s.tar"))
    next(samples)
    last = data.rindex(tar[1][-1][1])
    put(address("in/s.tar"), data[:last] + b"other" + data[last + 5 :])
    with pytest.raises(ShardError, match="has changed while it was read"):
        list(samples)


def test_what_will_not_come_back_is_not_waited_for(store):
    app, address = store
    with pytest.raises(ShardError, match="cannot read s3://data/in/absent.tar"):
        read(address("in/absent.tar"))
    assert len(app.requests) == 1
    app.faults = [Fault("HEAD", "denied", status=403, n=ALWAYS)]
    with pytest.raises(ShardError, match="ACCESS_DENIED"):
        read(address("in/denied.tar"))
    assert len(app.requests) == 2


@pytest.fixture(scope="module")
def many(server):
    """Twelve shards in one folder, of 0 to 11 bytes."""
    for i in range(12):
        put(server[1](f"many/{i:03}.tar"), b"x" * i)


@pytest.mark.parametrize("pattern", ["many/*.tar", "many/{000..011}.tar", "many"])
def test_one_listing_tells_every_identity(store, many, pattern):
    app, address = store
    tasks = run_folder.tasks([address(pattern)], RUN)
    assert len(app.requests) == 1
    assert [t.version.split()[0] for t in tasks] == [f"size={i}" for i in range(12)]
    assert tasks[7].version == storage.version(tasks[7].source)


def test_a_store_that_may_not_be_listed_is_asked_for_each(store, many):
    app, address = store
    app.faults = [Fault("GET", "/data", status=403, n=ALWAYS)]
    tasks = run_folder.tasks([address("many/{000..011}.tar")], RUN)
    assert [t.version.split()[0] for t in tasks] == [f"size={i}" for i in range(12)]


def test_a_shard_that_the_listing_lacks_is_refused(store, many):
    _, address = store
    with pytest.raises(ConfigError, match="no shard matches s3://data/many/012.tar"):
        run_folder.tasks([address("many/{000..012}.tar")], RUN)


def test_globs_over_folders(store):
    _, address = store
    for key in ("globs/a/1.tar", "globs/b/1.tar", "globs/b/2.tar", "globs/c.txt"):
        put(address(key), b"x")

    def found(pattern):
        return [storage.redact(url) for url in storage.expand([address(pattern)])]

    assert found("globs/*/1.tar") == [f"s3://data/globs/{x}/1.tar" for x in "ab"]
    assert found("globs/b/") == [f"s3://data/globs/b/{i}.tar" for i in (1, 2)]
    assert found("globs/b/{2..2}.tar") == ["s3://data/globs/b/2.tar"]
    with pytest.raises(ConfigError, match="no shard matches s3://data/globs/c"):
        found("globs/c*.tar")


@pytest.mark.parametrize(("out", "key"), [("one", "_run/parts/"), ("two", "two/s.parquet")])
def test_an_upload_that_fails_is_tried_again(store, out, key):
    app, address = store
    app.faults = [Fault("PUT", key, status=500, n=2)]
    write(address(out))
    assert app.faults[0].n == 0
    assert names(address(out)) == [f"data/{out}/s.parquet"]
    assert LatentDataset(address(out)).latents().shape == (3, 2, 3)


@pytest.mark.parametrize("key", ["_run/parts/", "kept/s.parquet"])
def test_an_upload_that_fails_for_good_leaves_what_was_there(store, key):
    app, address = store
    write(address("kept"), n=2)
    app.faults = [Fault("PUT", key, status=500, n=ALWAYS)]
    with pytest.raises(ShardError, match=r"cannot write s3://data/kept/s\.parquet") as error:
        write(address("kept"), n=3)
    assert "SECRET" not in str(error.value)
    app.faults = []
    assert [name for name in names(address("kept")) if "parts" not in name] == [
        "data/kept/s.parquet"
    ]
    assert len(LatentDataset(address("kept"))) == 2


def test_an_upload_that_is_stored_in_part_is_not_committed(store, monkeypatch):
    _, address = store
    monkeypatch.setattr("pipeline.latents.writer.COPY_BLOCK", 100)
    files, _ = storage.filesystem(address("half"))

    class Breaks:
        """The store, but for a connection that is lost while a file is written."""

        def __getattr__(self, name):
            return getattr(files, name)

        def open_output_stream(self, path):
            stream = files.open_output_stream(path)

            class Stream:
                def __enter__(self):
                    return self

                def __exit__(self, *_):
                    stream.close()

                def write(self, block):
                    if stream.tell():
                        raise OSError("lost")
                    stream.write(block)

            return Stream()

    monkeypatch.setattr(storage, "filesystem", lambda url: (Breaks(), "data/half"))
    with pytest.raises(ShardError, match="lost"):
        write(address("half"))
    monkeypatch.undo()
    assert names(address("half")) == []


def test_google_cloud_storage(tar, monkeypatch):
    data, samples = tar
    monkeypatch.setattr(stream, "STORE_BLOCK", BLOCK)
    with gcs_server() as address:
        for i in range(3):
            put(address(f"in/{i}.tar"), data)
        tasks = run_folder.tasks([address("in/*.tar")], RUN)
        assert [storage.redact(t.source) for t in tasks] == [
            f"gs://data/in/{i}.tar" for i in range(3)
        ]
        assert tasks[1].version == storage.version(tasks[1].source)
        assert read(tasks[1].source) == samples
        source = FileSource(tasks[2].source)
        source.at(0).close()
        with source.at(len(data) // 3) as rest:
            assert rest.read(50_000) == data[len(data) // 3 :][:50_000]
        put(tasks[2].source, data[:-1])
        with pytest.raises(ShardError, match="has changed"):
            source.at(5)
        run_folder.require_writable(address("out"))
        run_folder.write_run_record(address("out"), {"steps": 1}, tasks, overwrite=False)
        write(address("out"), tasks[0].output)
        write(address("out"), tasks[0].output)
        assert run_folder.pending(tasks, address("out")) == tasks[1:]
        assert len(LatentDataset(address("out"))) == 3
        assert not [name for name in names(address("out")) if "parts/" in name]


def test_what_fsspec_knows(tar, monkeypatch):
    import fsspec

    data, samples = tar
    put("memory://in/a/s.tar", data)
    put("memory://in/b/s.tar", data)
    tasks = run_folder.tasks(["memory://in/*/s.tar"], RUN)
    assert [t.source for t in tasks] == ["memory://in/a/s.tar", "memory://in/b/s.tar"]
    assert run_folder.tasks(["memory://in/a"], RUN) == tasks[:1]
    assert read(tasks[0].source) == samples
    put("memory://in/a/s.tar", data)
    assert run_folder.tasks(["memory://in/a"], RUN) != tasks[:1]
    run_folder.require_writable("memory://out")
    write("memory://out", tasks[0].output)
    assert run_folder.committed("memory://out") == [tasks[0].output]
    assert LatentDataset("memory://out").latents().shape == (3, 2, 3)
    fsspec.filesystem("memory").store.clear()
    with pytest.raises(ConfigError, match="abfs:// needs a package that is missing: .*adlfs"):
        run_folder.tasks(["abfs://container@account.dfs.core.windows.net/s.tar"], RUN)
    with pytest.raises(ConfigError, match="cannot open nothing://x/s.tar: .*nothing"):
        run_folder.tasks(["nothing://user:secret@x/s.tar"], RUN)


def test_an_address_to_which_nothing_can_be_written():
    with pytest.raises(ConfigError, match="https://host/out can only be read"):
        run_folder.require_writable("https://user:secret@host/out")


def test_a_local_file_may_be_named_by_url(tmp_path, write_tar):
    write_tar(tmp_path / "a b.tar", [("a.jpg", b"1")])
    [task] = run_folder.tasks([f"file://{tmp_path}/a%20b.tar"], RUN)
    assert task.source == str(tmp_path / "a b.tar")
