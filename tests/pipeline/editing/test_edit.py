"""Edits on a real Ray cluster: rows, resume, refusals."""

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from generators import CheckpointError, directions
from pipeline import LatentDataset, audit, images, run
from pipeline.config import ClusterConfig, ConfigError
from pipeline.editing.actor import EditorActor
from pipeline.editing.edit import EditConfig, prepare
from pipeline.schema import FOOTER_KEY, dense
from pipeline.storage import ShardError

N_SHARDS = 6


@pytest.fixture(scope="module")
def home(make_latents, tmp_path_factory):
    """A folder with ``latents/``, and a direction for them; what is in both."""
    folder = tmp_path_factory.mktemp("edit")
    made = make_latents(folder / "latents", N_SHARDS, labels={"smile": np.arange(6.0 * N_SHARDS)})
    vectors = torch.randn(made.shape, generator=torch.Generator().manual_seed(3))
    directions.save(folder / "smile.safetensors", vectors, {}, "")
    return folder, made, vectors.numpy()


@pytest.fixture(scope="module")
def prepared(cluster, home):
    """Prepare an edit of the latents: one worker, every edit drawn."""
    how = ClusterConfig(address=cluster, gpus_per_actor=0, n_actors=1)

    def make(out, latents="latents", **settings):
        usual = {"directions": (f"{home[0]}/smile.safetensors",), "strengths": (-2.0, 2.0)}
        config = EditConfig(**{**usual, "save_images": True, **settings})
        return prepare(str(home[0] / latents), str(home[0] / out), config, how), how

    return make


@pytest.fixture(scope="module")
def edited(home, prepared):
    """The folder of an undisturbed edit, and the run's summary."""
    summary = run.execute(*prepared("edited"), lambda summary, n_rows_begun: None)
    return str(home[0] / "edited"), summary


def content(folder):
    return {path.name: path.read_bytes() for path in sorted(Path(folder).glob("*.parquet"))}


def test_edits_are_a_latent_folder_that_verifies(home, edited):
    _, made, vectors = home
    out, summary = edited
    assert (summary.n_shards, summary.n_samples, summary.n_rows) == (6, 36, 72)
    assert summary.n_by_status == {"ok": 60, "no_face": 12}
    assert all(not found.problems for found in audit.verify(out, audit.files(out)))
    assert not audit.missing(out)
    table = LatentDataset(out).table(["key", "label_smile", "strength", "direction", "latent"])
    assert table["key"].to_pylist()[:4] == ["0/0", "0/0", "0/1", "0/1"]
    assert table["strength"].to_pylist()[:2] == [-2.0, 2.0]
    assert set(table["direction"].to_pylist()) == {"smile"}
    found = dense(table["latent"].combine_chunks().drop_null())
    np.testing.assert_allclose(found[1], made.latents[0] + 2 * vectors, rtol=1e-5)
    assert audit.status(out).n_by_status == summary.n_by_status


def test_pictures_are_those_of_the_edited_latents(home, edited):
    _, made, vectors = home
    rows = LatentDataset(edited[0]).table(["reconstruction"]).slice(1, 1).to_pylist()
    latent = torch.from_numpy(made.latents[:1] + 2 * vectors)
    with torch.inference_mode():
        expected = images.to_u8(made.model.draw(latent)[0])
    assert np.abs(images.decode(rows[0]["reconstruction"]).astype(int) - expected).mean() < 4


def test_stopped_and_then_robbed_of_its_worker_it_comes_to_the_same_bytes(home, edited, prepared):
    again = home[0] / "again"

    def stop(summary, n_rows_begun):
        if summary.n_shards:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.execute(*prepared("again"), stop)
    assert 0 < len(content(again)) < N_SHARDS

    def kill(summary, n_rows_begun):
        if summary.n_shards and not summary.n_deaths:
            [worker] = summary.workers
            os.kill(int(worker.split()[-1]), signal.SIGKILL)

    there = len(content(again))
    summary = run.execute(*prepared("again"), kill)
    assert summary.n_shards == N_SHARDS - there
    assert summary.n_deaths >= 1
    assert content(again) == content(edited[0])
    assert not list((again / "_run" / "parts").iterdir())
    assert not prepared("again")[0].left


def test_rows_are_chosen_by_their_columns(home, prepared):
    """In this process: what a worker does."""
    where = "status == 'ok' and label_smile >= 3"
    plan, _ = prepared("chosen", where=where, save_images=False)
    editor = EditorActor(replace(plan.workers, n_threads=1))
    for task in plan.left[:1]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("pipeline.editing.actor.worker_name", lambda: "here")
            report = editor.process(task)
    assert (report.n_samples, report.n_by_status) == (2, {"ok": 4})
    out = str(home[0] / "chosen")
    rows = LatentDataset(out).table(["key"])["key"].to_pylist()
    assert rows == ["0/3", "0/3", "0/4", "0/4"]
    (home[0] / "chosen" / "_run" / "settings.json").write_text(json.dumps(plan.identity))
    assert [found.problems for found in audit.verify(out, audit.files(out))] == [[]]
    with pytest.raises(ConfigError, match="no column 'grin' to filter by"):
        prepared("chosen", where="grin > 1")


def test_a_source_file_that_is_cut_or_of_another_run_is_refused(home, prepared):
    shutil.copytree(home[0] / "latents", home[0] / "broken")
    _, cut, foreign, *_ = sorted((home[0] / "broken").glob("*.parquet"))
    cut.write_bytes(cut.read_bytes()[:900])
    table = pq.read_table(foreign)
    record = json.loads(table.schema.metadata[FOOTER_KEY]) | {"fingerprint": "other"}
    pq.write_table(table.replace_schema_metadata({FOOTER_KEY: json.dumps(record)}), foreign)
    plan, _ = prepared("never", "broken", save_images=False)
    editor = EditorActor(plan.workers)
    for task, says in zip(plan.left[1:3], ("Parquet", "of another run"), strict=True):
        with pytest.raises(ShardError, match=says):
            editor.process(task)
    assert not content(home[0] / "never")


def test_refusals_before_ray_starts(home, make_inverter, tmp_path, monkeypatch):
    monkeypatch.chdir(home[0])
    how = ClusterConfig()
    base = {"directions": ("smile.safetensors",), "strengths": (1.0,)}

    def refused(says, latents="latents", out="refused", kind=ConfigError, **settings):
        with pytest.raises(kind, match=says):
            prepare(latents, out, EditConfig(**{**base, **settings}), how)

    refused("holds no Parquet file", latents=str(tmp_path))
    refused("--out is the folder that the latents are in", out="latents/")
    refused("no direction at absent.pt", kind=CheckpointError, directions=("absent.pt",))
    refused("takes numbers", strengths=())
    refused("names a number twice", strengths=(1.0, 1.0))
    refused("SeFa has the components 0 to 15", directions=("sefa:99",))
    other = str(make_inverter(seed=5))
    refused("not the one that the latents are of", save_images=True, model=other)
    torch.save(torch.ones(1, 512), tmp_path / "ffhq.pt")
    foreign = (str(tmp_path / "ffhq.pt"),)
    refused("10 style vectors of 16", kind=CheckpointError, directions=foreign)
    assert not Path("refused").exists()


def test_other_settings_and_edits_of_edits_are_refused(edited, prepared):
    with pytest.raises(ConfigError, match=r"edit_strengths: -2.0,2.0 there, 3.0 now"):
        prepared("edited", strengths=(3.0,))
    with pytest.raises(ConfigError, match="holds edits already"):
        prepared("twice", "edited")
