"""One actor in this process, its aligners too: what it leaves behind when a stage fails."""

import io
import threading
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from pipeline import Inverter, LatentDataset
from pipeline.config import ClusterConfig, RunConfig
from pipeline.engine.local import LocalHost
from pipeline.engine.tasks import InThisProcess
from pipeline.errors import ShardError
from pipeline.faces import images
from pipeline.inversion import feed, run
from pipeline.inversion.actor import InversionActor
from pipeline.inversion.batches import BatchInverter
from pipeline.latents import footer
from pipeline.latents.writer import ShardWriter

N = 13


@pytest.fixture(scope="module")
def shard(tmp_path_factory, write_tar, photo):
    """Photos, every fifth damaged, and a label for each."""
    members = []
    for i in range(N):
        members.append((f"{i}.png", b"damaged" if i % 5 == 4 else photo(i)))
        members.append((f"{i}.json", b'{"age": %d}' % i))
    return write_tar(tmp_path_factory.mktemp("actor") / "s.tar", members)


@pytest.fixture
def start(one_thread, shard, tiny_inverter, tmp_path):
    """A function: a loaded actor, its task and its folder."""

    def make(out="out", batch_size=None, bound=None, labels=None, **changes):
        config = RunConfig(
            str(tiny_inverter),
            align="none",
            metrics=("mse", "identity"),
            steps=2,
            keep_fields=("json",),
            label_file=labels,
            bound=bound,
        )
        how = ClusterConfig(batch_size=batch_size)
        prepared = run.plan_inversion([shard], str(tmp_path / out), config, how)
        workers = replace(prepared.workers, n_in_flight=2, n_threads=1, **changes)
        actor = InversionActor(workers, LocalHost(InThisProcess()))
        actor.load()
        return actor, prepared.pending[0], tmp_path / out

    return make


@pytest.mark.parametrize(("asked", "used", "bound"), [(None, 8, None), (3, 3, 2.5)])
def test_the_footer_names_the_batch_size_that_was_used_and_the_bound(start, asked, used, bound):
    actor, task, out = start(batch_size=asked, bound=bound)
    report = actor.process(task)
    said = footer(pq.read_metadata(out / task.output))
    assert said["batch_size"] == used
    assert said.get("bound") == said["identity"].get("bound") == bound
    assert report.seconds["wait"] > 0
    assert report.n_by_status == {"ok": 11, "decode_error": 2}
    assert LatentDataset(str(out)).table()["label_age"].to_pylist() == list(range(N))


def test_labels_of_a_file_stand_beside_those_of_the_members(start, tmp_path):
    people = tmp_path / "people.csv"
    people.write_text("key,smile,age\n3.png,0.5,x\n0,1,y\nelsewhere,2,z\n")
    actor, task, out = start(labels=str(people))
    actor.process(task)
    rows = LatentDataset(str(out)).table(["label_smile", "label_age", "label_json"]).to_pylist()
    # The file is believed where both have a label; what the member says is not lost.
    assert rows[0] == {"label_smile": 1.0, "label_age": "y", "label_json": '{"age": 0}'}
    assert rows[3] == {"label_smile": 0.5, "label_age": "x", "label_json": '{"age": 3}'}
    assert [row["label_smile"] for row in rows].count(None) == N - 2


def test_an_inverter_without_ray_finds_what_the_actor_writes(
    one_thread, tiny_inverter, write_tar, tmp_path
):
    data = (resources.files("pipeline.portraits") / "astronaut.jpg").read_bytes()
    one, two = images.decode(data), io.BytesIO()
    Image.fromarray(np.hstack([one, one[:, ::-1]])).save(two, "png")
    photos = {"one.jpg": data, "two.png": two.getvalue()}
    shard = write_tar(tmp_path / "photos.tar", photos.items())
    settings = {"faces": "all", "steps": 3, "refine": 2, "metrics": ("mse", "psnr", "identity")}
    config = RunConfig(str(tiny_inverter), latents="all", **settings)
    prepared = run.plan_inversion([shard], str(tmp_path / "out"), config, ClusterConfig())
    workers = replace(prepared.workers, n_in_flight=1, n_threads=1)
    actor = InversionActor(workers, LocalHost(InThisProcess()))
    actor.load()
    actor.process(prepared.pending[0])
    inverter = Inverter(tiny_inverter, device="cpu", **settings)
    found = [face for faces in inverter.invert(list(photos.values())) for face in faces]
    rows = list(LatentDataset(str(tmp_path / "out")))
    assert [(row["status"], row["face"], row["n_faces"]) for row in rows] == [
        ("ok", face.number, face.n_faces) for face in found
    ]
    assert len(rows) == 3
    for row, face in zip(rows, found, strict=True):
        for name in ("latent", "latents_by_step", "quad", "landmarks"):
            np.testing.assert_allclose(getattr(face, name), row[name], atol=1e-5, rtol=1e-6)
        for name in settings["metrics"]:
            measured = [np.nan if value is None else value for value in face.metrics[name]]
            np.testing.assert_allclose(measured, row[name], atol=1e-5)
        assert (face.best_step, face.precision) == (row["best_step"], row["precision"])
        assert face.detection_score == pytest.approx(row["detection_score"])


def test_stages_that_overlap_write_the_same_bytes(start):
    files = []
    for n_ahead in (0, 2):
        actor, task, out = start(f"out{n_ahead}", batch_size=3, n_ahead=n_ahead)
        actor.process(task)
        files.append((out / task.output).read_bytes())
    assert files[0] == files[1]


def test_an_actor_knows_how_much_of_its_shard_is_done(start, monkeypatch):
    actor, task, _ = start(batch_size=3, n_ahead=0)
    told = [actor.reached()]
    add = ShardWriter.add
    monkeypatch.setattr(ShardWriter, "add", lambda *a: (told.append(actor.reached()), add(*a)))
    actor.process(task)
    rows, shares = zip(*told, strict=True)
    assert list(rows) == sorted(rows)
    assert list(shares) == sorted(shares)
    assert shares[0] == 0
    assert 0 < shares[-1] < 1  # the last rows were still to come


class Failed(Exception):
    """Raised by one stage."""


def fail(*_, **__):
    raise Failed("on purpose")


@pytest.mark.parametrize(
    ("where", "what"),
    [
        (images, None),
        (BatchInverter, "_batch"),
        (BatchInverter, "_invert"),
        (BatchInverter, "_fetch"),
        (feed.Chips, "cut"),
        (ShardWriter, "add"),
        (ShardWriter, "commit"),
    ],
)
def test_whatever_fails_nothing_is_left(start, monkeypatch, where, what):
    actor, task, out = start(batch_size=2)
    before = set(threading.enumerate())
    if what is None:  # the reader's thread
        Path(task.source).rename(f"{task.source}.away")
    else:
        monkeypatch.setattr(where, what, fail)
    try:
        with pytest.raises(ShardError if what is None else Failed):
            actor.process(task)
    finally:
        if what is None:
            Path(f"{task.source}.away").rename(task.source)
    assert set(threading.enumerate()) <= before
    assert not list(out.glob("*.parquet"))
    assert not list((out / "_run" / "parts").iterdir())
    monkeypatch.undo()
    assert actor.process(task).n_rows == N  # the actor goes on with another shard


def test_networks_keep_to_the_actors_threads(start, monkeypatch):
    """torch's number of threads decides the last bits, and each thread has its own."""
    actor, task, _ = start(batch_size=4)
    found = []
    begin = BatchInverter._invert

    def telling(self, batch):
        found.append((threading.current_thread().name, torch.get_num_threads()))
        return begin(self, batch)

    monkeypatch.setattr(BatchInverter, "_invert", telling)
    actor.process(task)
    assert {n for _, n in found} == {1}
    assert "MainThread" not in {name for name, _ in found}
