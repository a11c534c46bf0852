"""A run over a folder of photos, beside its packed tar and a Parquet file of them: the same rows."""

import json
import os
import shutil
from importlib import resources
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from latent_folders import failed, write_file

from pipeline import report
from pipeline.config import ClusterConfig, RunConfig
from pipeline.editing.render import RenderConfig, render
from pipeline.engine import audit
from pipeline.engine.run_folder import RunFolder
from pipeline.errors import ConfigError, ShardError
from pipeline.faces import images
from pipeline.inversion import run
from pipeline.latents import footer
from pipeline.records import Status
from pipeline.shards import packing
from pipeline.shards.photos import Recorded, SourcePhotos
from pipeline.storage import redact

LABELS = {"1": {"age": 3}, "face": {"age": 41, "who": "an astronaut"}}


@pytest.fixture(scope="module")
def inverted(invert_to, tmp_path_factory, photo):
    """One run over a folder, its tar and its Parquet file; ``tables`` by the end of the shard's name."""
    root = tmp_path_factory.mktemp("in_place")
    photos = root / "photos"
    (photos / "sub").mkdir(parents=True)
    face = (resources.files("pipeline.portraits") / "astronaut.jpg").read_bytes()
    contents = {
        "1.png": photo(1),
        "bad.jpg": b"damaged",
        "sub/face.jpg": face,
        "sub/z.a.png": photo(2),
    }
    for name, data in contents.items():
        (photos / name).write_bytes(data)
        if label := LABELS.get(Path(name).stem):
            (photos / name).with_suffix(".json").write_text(json.dumps(label))
    packing.pack(str(photos), str(root / "packed.tar"), 1000)
    labels = [LABELS.get(Path(name).stem, {}) for name in contents]
    columns = {"key": ["1", "bad", "sub/face", "sub/z_a"], "jpg": [*contents.values()]}
    columns |= {name: [label.get(name) for label in labels] for name in ("age", "who")}
    pq.write_table(pa.table(columns), root / "data.parquet")
    names = "\n".join(str(root / name) for name in ("packed.tar", "data.parquet", "photos"))
    (root / "inputs.txt").write_text(names)
    settings = {"align": "face", "latents": "all", "keep_fields": ("json",), "save_images": True}
    summary = invert_to(str(root / "out"), f"@{root / 'inputs.txt'}", **settings)
    assert summary.failures == []
    tables = {}
    for path in (root / "out").glob("*.parquet"):
        record = footer(pq.read_metadata(path))
        tables[record["shard"].removeprefix("photos://").removeprefix(str(root))] = pq.read_table(
            path
        )
    return SimpleNamespace(
        root=root, photos=photos, out=root / "out", tables=tables, settings=settings
    )


@pytest.fixture
def plan(inverted, tiny_inverter):
    """What the same run would still do, with the given inputs."""

    def make(*patterns, redo_changed=False):
        how = {"align": "none", "metrics": ("mse",), "steps": 2, **inverted.settings}
        config = RunConfig(str(tiny_inverter), **how)
        named = [str(pattern) for pattern in patterns]
        return run.plan_inversion(
            named, str(inverted.out), config, ClusterConfig(), redo_changed=redo_changed
        )

    return make


def test_rows_of_a_folder_and_of_a_table_are_those_of_the_packed_tar(inverted):
    tables = {name: table.drop_columns(["shard"]) for name, table in inverted.tables.items()}
    packed = tables["/packed.tar"]
    assert packed["status"].to_pylist() == ["no_face", "decode_error", "ok", "no_face"]
    assert packed["key"].to_pylist() == ["1", "bad", "sub/face", "sub/z_a"]
    assert packed["label_age"].to_pylist() == [3, None, 41, None]
    assert packed["latent"].null_count == 3
    assert tables["/photos/"].equals(packed)  # all columns, to the bit
    same = ["label_json"]  # a table has a value for each row, if only null
    assert tables["/data.parquet"].drop_columns(same).equals(packed.drop_columns(same))


def test_status_and_verify_know_shards_of_photos(inverted):
    status = audit.status(str(inverted.out))
    assert (status.n_done, status.n_asked, status.n_samples) == (3, 3, 12)
    audits = audit.verify(str(inverted.out), audit.files(str(inverted.out)))
    assert [problem for found in audits for problem in found.problems] == []


def alone(inverted, folder):
    """The rows of the folder, by themselves."""
    folder.mkdir()
    for path in inverted.out.glob("photos.*.parquet"):
        shutil.copy(path, folder)
    return str(folder)


def test_photos_are_found_again_for_reports_and_pasting(inverted, tmp_path):
    latents = alone(inverted, tmp_path / "latents")
    content = report.collect(latents)
    assert content.notes == []
    assert (
        sum(card.pictures.source is not None for card in [*content.cards, *content.failures]) == 3
    )
    done = render(latents, str(tmp_path / "pasted"), RenderConfig(paste_back=True), lambda n: None)
    assert done.n_written == 1
    pasted = images.decode((tmp_path / "pasted" / "sub" / "face.jpg").read_bytes())
    assert pasted.shape == images.decode((inverted.photos / "sub" / "face.jpg").read_bytes()).shape


def test_a_stranger_names_no_photo_that_is_opened(inverted, tmp_path):
    [path] = inverted.out.glob("photos.*.parquet")
    record = footer(pq.read_metadata(path))
    row = {"sample_index": 2, "key": "sub/face"}
    honest = Recorded.of(record)
    source = SourcePhotos(record["shard"], images.decode_or_none, None, *honest)
    assert source.of(row).shape == (512, 512, 3)
    place = record["shard"], images.decode_or_none
    private = f"photos://{tmp_path}/"
    shutil.copy(inverted.photos / "1.png", tmp_path / "mine.png")
    for shard, names, version in (
        (private, ["mine.png"], ""),  # its size and date are not known to a stranger
        (private, ["mine.png"], honest.version),
        (private, list(honest.names), honest.version),
        ("photos://relative/", ["mine.png"], honest.version),
        ("photos:///", [str(tmp_path / "mine.png").lstrip("/")], honest.version),
        (record["shard"], [], honest.version),
        (record["shard"], ["../x.png", *honest.names[1:]], honest.version),
        (record["shard"], ["/etc/x.png", *honest.names[1:]], honest.version),
        (record["shard"], ["a%00.png"], honest.version),
        (record["shard"], ["etc/passwd"], honest.version),
        (record["shard"], ["a.png"] * 100_000, honest.version),
    ):
        with pytest.raises(ShardError, match="--photos"):
            SourcePhotos(shard, images.decode_or_none, None, version, names)
    # Where the user says where photos are, names stay below that folder, and dates do not count.
    copy = shutil.copytree(inverted.photos, tmp_path / "copy")
    assert SourcePhotos(*place, str(copy), "", honest.names).of(row) is not None
    with pytest.raises(ShardError, match="does not say which photos"):
        SourcePhotos(*place, str(copy), "", ["../mine.png"])
    with pytest.raises(ConfigError, match="not a folder of this machine"):
        SourcePhotos(*place, "s3://bucket/photos", "", honest.names)
    assert (
        Recorded.of({**record, "identity": {"edit_directions": []}}) == honest
    )  # edits know it too


def test_a_finished_folder_is_finished_until_a_photo_is_added(inverted, plan, photo):
    everything = f"@{inverted.root / 'inputs.txt'}"
    assert plan(everything).pending == []
    # Moved with its dates, it is what was done.
    moved = shutil.copytree(inverted.photos, inverted.root / "elsewhere" / "photos", symlinks=True)
    again = plan(moved)
    assert (again.pending, len(again.found.moved)) == ([], 1)
    with pytest.raises(ConfigError, match="1.png was inverted before, together with .*bad.jpg"):
        plan(inverted.photos / "1.png")
    by_name = [path for path in inverted.photos.rglob("*.*g") if path.is_file()]
    assert plan(*by_name).pending == []  # the same photos under another name
    new = inverted.photos / "new.png"
    new.write_bytes(photo(7))
    try:
        with pytest.raises(ConfigError, match="/photos/ has changed since.*pass --redo-changed"):
            plan(everything)
        says = "photos of .*/photos/ are asked for in another shard now; delete photos.*pass --redo"
        with pytest.raises(ConfigError, match=says):
            plan(*by_name, new)
        again = plan(everything, redo_changed=True)
        folder = RunFolder(str(inverted.out))
        with pytest.raises(ConfigError, match="is finished; to take its rows away"):
            folder.forget([str(inverted.photos)])
        left = again.found.gone, again.found.changed
        folder.write_run_record(again.settings, again.tasks, False, *left)
        assert (
            len(again.pending) == len(audit.unfinished(str(inverted.out), folder.committed())) == 1
        )
        assert [*inverted.out.glob("photos.*")] == []  # or the rows would come twice
        assert folder.forget([str(inverted.photos)]) == [redact(again.pending[0].source)]
    finally:
        os.unlink(new)


def test_crashed_rows_of_photos_are_tried_again(tiny_inverter, tmp_path, photo):
    photos, out = tmp_path / "photos", str(tmp_path / "out")
    photos.mkdir()
    (photos / "a.png").write_bytes(photo())
    config = RunConfig(str(tiny_inverter), align="none", metrics=("mse",))
    first = run.plan_inversion([str(photos)], out, config, ClusterConfig())
    [task] = first.pending
    RunFolder(out).write_run_record(first.settings, first.tasks, overwrite=False)
    rows = [failed(0, "a", Status.CRASHED, "it died")]
    write_file(out, task.output, rows, config, (10, 16), first.settings, shard=redact(task.source))
    again = [
        run.plan_inversion(
            [str(photos)], out, config, ClusterConfig(), retry_failed=retried
        ).pending
        for retried in (False, True)
    ]
    assert again == [[], [task]]
