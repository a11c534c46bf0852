"""Parquet files of images, as img2dataset and Hugging Face's datasets write them, and what is none."""

import datetime
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.config import FOOTER_KEY
from pipeline.errors import ConfigError, ShardError
from pipeline.shards import inputs, labels
from pipeline.storage import filesystem

FIELDS = frozenset({"json", "txt", "cls"})


@pytest.fixture
def img2dataset(tmp_path, photo):
    """Two photos, and one that could not be downloaded."""
    columns = {
        "url": [f"https://host/{i}.jpg" for i in range(3)],
        "caption": ["a face", "nobody", None],
        "key": [f"00000000{i}" for i in range(3)],
        "status": ["success", "failed_to_download", "success"],
        "error_message": [None, "HTTP Error 404: Not Found", None],
        "width": pa.array([80, None, 80], pa.int32()),
        "taken": [datetime.datetime(2024, 1, 2, 3, 4), None, None],
        "exif": [[1], None, [2]],
        "jpg": [photo(0), None, photo(2)],
    }
    path = tmp_path / "00000.parquet"
    pq.write_table(pa.table(columns), path, row_group_size=2)
    return path, columns


def read(path, fields=FIELDS):
    return list(inputs.samples(str(path), fields))


def test_rows_of_img2dataset_are_samples(img2dataset):
    path, columns = img2dataset
    samples = read(path)
    assert [s.key for s in samples] == columns["key"]
    assert [s.index for s in samples] == [0, 1, 2]
    assert [s.image for s in samples] == columns["jpg"]
    assert [s.status for s in samples] == ["ok", "missing_image", "ok"]
    assert samples[1].error == (
        "no image in the column jpg (failed_to_download: HTTP Error 404: Not Found)"
    )
    assert json.loads(samples[0].fields["json"]) == {
        "url": "https://host/0.jpg", "caption": "a face", "status": "success", "error_message": None,
        "width": 80, "taken": "2024-01-02 03:04:00.000000",
    }  # fmt: skip
    assert samples[0].fields["txt"] == b"a face"
    assert "txt" not in samples[2].fields
    assert read(path, frozenset())[1].error == samples[1].error
    kinds = labels.columns([str(path)], ["json"], {})
    assert kinds["label_width"] == "int64"
    assert kinds["label_caption"] == "string"


def test_a_data_set_of_hugging_face_is_read(tmp_path, photo):
    from datasets import ClassLabel, Dataset, Features, Image, Value

    rows = {
        "image": [{"bytes": photo(i), "path": p} for i, p in enumerate(["a/x.v1.png", None, "a/x.v1.png"])],
        "label": [1, 0, 1],
        "smile": [0.5, float("nan"), 0.25],
    }  # fmt: skip
    features = Features(
        image=Image(), label=ClassLabel(names=["no", "yes"]), smile=Value("float32")
    )
    (tmp_path / "data").mkdir()
    Dataset.from_dict(rows, features).to_parquet(tmp_path / "data" / "train-00000-of-00001.parquet")
    (tmp_path / "README.md").write_text("of the data set")
    [url] = inputs.expand([str(tmp_path)]).versions
    samples = read(url)
    assert [s.key for s in samples] == ["a/x_v1", "1", "a/x_v1_2"]
    assert [s.image for s in samples] == [photo(i) for i in range(3)]
    assert [s.fields["cls"] for s in samples] == [b"1", b"0", b"1"]
    assert labels.values(samples[2], {"label_smile": "double"}) == (
        {"label_smile": 0.25, "label_cls": 1, "label_json": '{"label": 1}'},
        None,
    )


def test_a_column_of_paths_alone_opens_nothing(tmp_path, photo):
    (tmp_path / "private.png").write_bytes(photo())
    image = pa.array([{"bytes": None, "path": str(tmp_path / "private.png")}, None],
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]))  # fmt: skip
    pq.write_table(pa.table({"image": image}), tmp_path / "x.parquet")
    first, second = read(tmp_path / "x.parquet")
    assert (first.image, first.status) == (None, "missing_image")
    assert "no file is opened that a data set names" in first.error
    assert second.error == "no image in the column image"
    assert (first.key, second.key) == (str(tmp_path / "private")[1:], "1")


def test_damage_is_one_sentence(img2dataset, tmp_path):
    path, _ = img2dataset
    data = path.read_bytes()
    for name, content in {
        "cut": data[:-20],
        "empty": b"",
        "page": data[:200] + bytes(400) + data[600:],
        "text": b"no table",
    }.items():
        damaged = tmp_path / f"{name}.parquet"
        damaged.write_bytes(content)
        with pytest.raises(ShardError, match=f"{name}.parquet (is not a whole Parquet file|says)"):
            read(damaged)
    with pytest.raises(ConfigError, match="cut.parquet is not a whole Parquet file"):
        inputs.expand([str(tmp_path / "cut.parquet")])


def test_a_text_that_is_no_utf8_costs_no_row(tmp_path, photo):
    spoilt = pa.array([b"caf\xe9", b"tea"]).cast(pa.binary()).view(pa.string())
    table = pa.table({"jpg": [photo(0), photo(1)], "txt": spoilt, "key": spoilt})
    pq.write_table(table, tmp_path / "a.parquet")
    samples = read(tmp_path / "a.parquet")
    assert [s.key for s in samples] == ["caf\\xe9", "tea"]
    assert [s.fields["txt"] for s in samples] == [b"caf\\xe9", b"tea"]


def test_tables_that_are_no_input_are_refused(img2dataset, tmp_path, write_tar, photo):
    table = pq.read_table(img2dataset[0])
    ours = table.replace_schema_metadata({FOOTER_KEY: b"{}"})
    for name, content, says in (
        ("urls", table.drop_columns(["jpg"]), "has no column of images"),
        ("ours", ours, "holds latents, the output of `restyle invert`"),
        ("two", pa.table([table["jpg"], table["jpg"]], ["jpg", "jpg"]), "two columns 'jpg'"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        pq.write_table(content, folder / "x.parquet")
        for named in (folder, folder / "x.parquet", folder / "*.parquet"):
            with pytest.raises(ConfigError, match=says):
                inputs.expand([str(named)])
    (tmp_path / "a.png").write_bytes(photo())
    with pytest.raises(ConfigError, match="holds photos and Parquet files with images"):
        inputs.expand([str(tmp_path)])
    # img2dataset lays a table without pictures beside tars, and beside photos.
    beside = {"tars": "00000.tar", "files": "0/000000000.png"}
    for folder, name in beside.items():
        (tmp_path / folder / name).parent.mkdir(parents=True)
        pq.write_table(table.drop_columns(["jpg"]), tmp_path / folder / "00000.parquet")
        (tmp_path / folder / name).write_bytes(photo())
    write_tar(tmp_path / "tars" / "00000.tar", [("a.png", photo())])
    assert [Path(url).name for url in inputs.expand([str(tmp_path / "tars")]).versions] == [
        "00000.tar"
    ]
    found = inputs.expand([str(tmp_path / "files")])
    assert (found.n_photos, found.skipped) == (1, ["00000.parquet"])


def test_tables_of_a_store_are_listed_and_read(img2dataset):
    path, columns = img2dataset
    files, folder = filesystem("memory://tables/data")
    files.create_dir(folder)
    with files.open_output_stream(f"{folder}/0.parquet") as stream:
        stream.write(path.read_bytes())
    url = "memory://tables/data/0.parquet"
    for pattern in (url, "memory://tables", "memory://tables/data", "memory://tables/*/*.parquet"):
        assert list(inputs.expand([pattern]).versions) == [url], pattern
    assert [s.key for s in read(url)] == columns["key"]
    assert inputs.version(url).startswith(f"size={path.stat().st_size}")
    with pytest.raises(
        ConfigError, match="holds neither tars nor Parquet files; photos are read from"
    ):
        inputs.expand(["memory://tables/none"])


@pytest.fixture
def hub(monkeypatch, img2dataset):
    """A server on loopback that answers as huggingface.co does, of the data set me/faces with one file."""
    import huggingface_hub

    data = img2dataset[0].read_bytes()
    file = {"type": "file", "path": "data/0.parquet", "size": len(data), "oid": "b10b"}
    folder = {"type": "directory", "path": "data", "size": 0, "oid": "d"}
    root = "/api/datasets/me/faces"
    answers = {
        root: {"id": "me/faces", "sha": "c" * 40, "siblings": []},
        f"{root}/tree/main?recursive=false&expand=false": [folder],
        f"{root}/tree/main?recursive=true&expand=false": [folder, file],
        f"{root}/tree/main/data?recursive=false&expand=false": [file],
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            content, status = b"{}", 200 if self.path in answers else 404
            if self.path in answers:
                content = json.dumps(answers[self.path]).encode()
            elif "/datasets/me/faces/resolve/" in self.path:
                first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
                content, status = data[first : last + 1], 206
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    constants = "huggingface_hub.constants"
    monkeypatch.setattr(f"{constants}.ENDPOINT", address)
    pattern = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(f"{constants}.HUGGINGFACE_CO_URL_TEMPLATE", pattern)
    huggingface_hub.HfFileSystem.clear_instance_cache()
    yield
    huggingface_hub.HfFileSystem.clear_instance_cache()
    server.shutdown()


def test_a_data_set_on_the_hub_is_listed_and_read(hub, img2dataset):
    url = "hf://datasets/me/faces/data/0.parquet"
    for pattern in (url, "hf://datasets/me/faces", "hf://datasets/me/faces/data/*.parquet"):
        assert list(inputs.expand([pattern]).versions) == [url]
    assert inputs.version(url).endswith(" blob_id=b10b")
    assert [sample.image for sample in read(url)] == img2dataset[1]["jpg"]


def test_a_large_table_takes_little_memory(tmp_path, photo):
    import tracemalloc

    data = photo() + bytes(1 << 20)
    table = pa.table({"image": pa.array([data] * 16, pa.binary())})
    with pq.ParquetWriter(tmp_path / "x.parquet", table.schema, compression="none") as writer:
        for _ in range(16):
            writer.write_table(table, row_group_size=256)
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    most = 0
    for sample in inputs.samples(str(tmp_path / "x.parquet")):
        assert len(sample.image) == len(data)
        most = max(most, pa.total_allocated_bytes() - before)
    traced = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most + traced < 160 << 20  # of 256 MiB: some batches, not the file
