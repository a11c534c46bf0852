"""Edits: rows, resume, refusals."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from generators import CheckpointError, directions
from pipeline import LatentDataset
from pipeline.config import FOOTER_KEY, ClusterConfig
from pipeline.editing.actor import EditorActor
from pipeline.editing.edit import EditConfig, plan_edit
from pipeline.engine import audit, local
from pipeline.engine.local import LocalHost
from pipeline.engine.run import execute
from pipeline.engine.run_folder import RunFolder
from pipeline.engine.tasks import InThisProcess
from pipeline.errors import ConfigError, ShardError
from pipeline.faces import images
from pipeline.latents.schema import dense

N_SHARDS = 4


@pytest.fixture(scope="module")
def home(make_latents, tmp_path_factory):
    """A folder with ``latents/``, and a direction for them; what is in both."""
    folder = tmp_path_factory.mktemp("edit")
    made = make_latents(folder / "latents", N_SHARDS, labels={"smile": np.arange(6.0 * N_SHARDS)})
    vectors = torch.randn(made.shape, generator=torch.Generator().manual_seed(3))
    directions.save(folder / "smile.safetensors", vectors, {}, "")
    return folder, made, vectors.numpy()


@pytest.fixture(scope="module")
def prepared(home):
    """Prepare an edit of the latents, every edit drawn."""
    how = ClusterConfig(executor="local")

    def make(out, latents="latents", **settings):
        usual = {"directions": (f"{home[0]}/smile.safetensors",), "strengths": (-2.0, 2.0)}
        config = EditConfig(**{**usual, "save_images": True, **settings})
        return plan_edit(str(home[0] / latents), str(home[0] / out), config, how), how

    return make


@pytest.fixture(scope="module")
def edited(home, prepared):
    """The folder of an edit, and the run's summary."""
    return str(home[0] / "edited"), execute(*prepared("edited"), lambda *_: None)


@pytest.fixture
def here():
    """Do in this thread what a worker would do; returns its reports."""
    before = torch.get_num_threads()

    def process(plan, tasks):
        RunFolder(plan.out).write_run_record(plan.settings, plan.tasks, overwrite=False)
        config = replace(plan.workers, n_threads=local.n_cpus())  # as a run does
        editor = EditorActor(config, LocalHost(InThisProcess()))
        editor.load()
        return [editor.process(task) for task in tasks]

    yield process
    torch.set_num_threads(before)


def content(folder):
    return {path.name: path.read_bytes() for path in sorted(Path(folder).glob("*.parquet"))}


@pytest.mark.slow
def test_edits_are_a_latent_folder_that_verifies(home, edited):
    _, made, vectors = home
    out, summary = edited
    assert (summary.n_shards, summary.n_samples, summary.n_rows) == (4, 24, 48)
    assert summary.n_by_status == {"ok": 40, "no_face": 8}
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


def test_stopped_and_continued_it_comes_to_the_same_bytes(home, edited, prepared, here):
    plan, _ = prepared("again")
    here(plan, plan.pending[:2])
    rest, _ = prepared("again")
    assert rest.pending == plan.pending[2:]
    here(rest, rest.pending)
    assert content(home[0] / "again") == content(edited[0])
    assert not list(Path(edited[0], "_run", "parts").iterdir())
    assert not prepared("edited")[0].pending


def test_rows_are_chosen_by_their_columns(home, prepared, here):
    where = "status == 'ok' and label_smile >= 3"
    plan, _ = prepared("chosen", where=where, save_images=False)
    [report] = here(plan, plan.pending[:1])
    assert (report.n_samples, report.n_by_status) == (2, {"ok": 4})
    out = str(home[0] / "chosen")
    rows = LatentDataset(out).table(["key"])["key"].to_pylist()
    assert rows == ["0/3", "0/3", "0/4", "0/4"]
    assert [found.problems for found in audit.verify(out, audit.files(out))] == [[]]
    with pytest.raises(ConfigError, match="no column 'grin' to filter by"):
        prepared("chosen", where="grin > 1")


def test_a_source_file_that_is_cut_or_of_another_run_is_refused(home, prepared, here):
    shutil.copytree(home[0] / "latents", home[0] / "broken")
    _, cut, foreign, *_ = sorted((home[0] / "broken").glob("*.parquet"))
    cut.write_bytes(cut.read_bytes()[:900])
    table = pq.read_table(foreign)
    record = json.loads(table.schema.metadata[FOOTER_KEY]) | {"fingerprint": "other"}
    pq.write_table(table.replace_schema_metadata({FOOTER_KEY: json.dumps(record)}), foreign)
    plan, _ = prepared("never", "broken", save_images=False)
    for task, says in zip(plan.pending[1:3], ("Parquet", "different run"), strict=True):
        with pytest.raises(ShardError, match=says):
            here(plan, [task])
    assert not content(home[0] / "never")


def test_refusals_before_ray_starts(home, make_inverter, tmp_path, monkeypatch):
    monkeypatch.chdir(home[0])
    how = ClusterConfig()
    base = {"directions": ("smile.safetensors",), "strengths": (1.0,)}

    def refused(says, latents="latents", out="refused", kind=ConfigError, **settings):
        with pytest.raises(kind, match=says):
            plan_edit(latents, out, EditConfig(**{**base, **settings}), how)

    refused("holds no Parquet file", latents=str(tmp_path))
    refused("--out is the folder that the latents are in", out="latents/")
    refused("no direction at absent.pt", kind=CheckpointError, directions=("absent.pt",))
    refused("takes numbers", strengths=())
    refused("has the same number twice", strengths=(1.0, 1.0))
    refused("SeFa has the components 0 to 15", directions=("sefa:99",))
    other = str(make_inverter(seed=5))
    refused("not the one that the latents were made with", save_images=True, model=other)
    torch.save(torch.ones(1, 512), tmp_path / "ffhq.pt")
    foreign = (str(tmp_path / "ffhq.pt"),)
    refused("10 style vectors of 16", kind=CheckpointError, directions=foreign)
    assert not Path("refused").exists()


def test_other_settings_and_edits_of_edits_are_refused(edited, prepared):
    with pytest.raises(ConfigError, match=r"edit_strengths: -2.0,2.0 there, 3.0 now"):
        prepared("edited", strengths=(3.0,))
    with pytest.raises(ConfigError, match="already holds edits"):
        prepared("twice", "edited")
