"""Edits on a real Ray cluster: rows, resume, refusals."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from generators import CheckpointError, directions
from pipeline import LatentDataset, audit, images, run
from pipeline.config import ClusterConfig, ConfigError
from pipeline.editing.edit import EditConfig, prepare
from pipeline.schema import dense


@pytest.fixture(scope="module")
def cluster():
    """Address of a Ray head of its own processes."""
    from ray.cluster_utils import Cluster

    found = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False}
    )
    yield found.address
    found.shutdown()


@pytest.fixture
def smile(make_latents, tmp_path, monkeypatch):
    """A working folder with latents and a direction for them."""
    monkeypatch.chdir(tmp_path)
    made = make_latents(tmp_path / "latents", 3, labels={"smile": np.arange(18.0)})
    vectors = torch.randn(made.shape, generator=torch.Generator().manual_seed(3))
    directions.save("smile.safetensors", vectors, {}, "")
    return made, vectors.numpy()


@pytest.fixture
def edit(cluster):
    def start(out, how=None, **settings):
        defaults = {"directions": ("smile.safetensors",), "strengths": (-2.0, 2.0)}
        how = ClusterConfig(address=cluster, gpus_per_actor=0, **(how or {}))
        prepared = prepare("latents", out, EditConfig(**{**defaults, **settings}), how)
        return run.execute(prepared, how, lambda summary, n_rows_begun: None)

    return start


def content(folder):
    return {path.name: path.read_bytes() for path in sorted(Path(folder).glob("*.parquet"))}


def test_edits_are_a_latent_folder_that_verifies(edit, smile):
    made, vectors = smile
    summary = edit("edited")
    assert (summary.n_shards, summary.n_samples, summary.n_rows) == (3, 18, 36)
    assert summary.n_by_status == {"ok": 30, "no_face": 6}
    assert all(not found.problems for found in audit.verify("edited", audit.files("edited")))
    assert not audit.missing("edited")
    ds = LatentDataset("edited")
    table = ds.table(["key", "label_smile", "strength", "direction", "latent"])
    assert table["key"].to_pylist()[:4] == ["0/0", "0/0", "0/1", "0/1"]
    assert table["strength"].to_pylist()[:2] == [-2.0, 2.0]
    assert set(table["direction"].to_pylist()) == {"smile"}
    found = dense(table["latent"].combine_chunks().drop_null())
    np.testing.assert_allclose(found[1], made.latents[0] + 2 * vectors, rtol=1e-5)
    assert audit.status("edited").n_by_status == summary.n_by_status


def test_pictures_are_those_of_the_edited_latents(edit, smile):
    made, vectors = smile
    edit("edited", save_images=True, strengths=(1.5,))
    row = LatentDataset("edited").table(["reconstruction", "latent"]).slice(0, 1).to_pylist()[0]
    latent = torch.from_numpy(made.latents[:1] + np.float32(1.5) * vectors)
    with torch.inference_mode():
        expected = images.to_u8(made.model.draw(latent)[0])
    assert np.abs(images.decode(row["reconstruction"]).astype(int) - expected).mean() < 4


def test_only_what_is_missing_is_done_and_to_the_same_bytes(edit, smile):
    edit("edited")
    first = content("edited")
    (Path("edited") / sorted(first)[1]).unlink()
    again = edit("edited")
    assert again.n_shards == 1
    assert content("edited") == first
    assert edit("edited").n_shards == 0


def test_a_killed_edit_goes_on_where_it_was(cluster, edit, make_latents, tmp_path, smile):
    make_latents(tmp_path / "latents", 16)
    edit("undisturbed", strengths=(-1.0, 1.0), save_images=True)

    def start():
        return subprocess.Popen(
            f"{sys.executable} -m jobs edit latents --out edited --direction smile.safetensors "
            f"--strengths=-1,1 --save-images --address {cluster}".split(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    job = start()
    while not list(Path("edited").glob("*.parquet")) and job.poll() is None:
        time.sleep(0.01)
    os.kill(job.pid, signal.SIGKILL)
    job.wait()
    last = start()
    assert last.wait() == 0, last.stdout.read()
    assert "shards were finished before" in last.stdout.read()
    assert content("edited") == content("undisturbed")
    assert len(content("edited")) == 16
    assert not list(Path("edited/_run/parts").iterdir())


def test_a_source_file_that_is_cut_or_of_another_run_is_listed(edit, make_latents, smile, tmp_path):
    import json

    import pyarrow.parquet as pq

    from pipeline.schema import FOOTER_KEY

    cut, foreign = sorted(Path("latents").glob("*.parquet"))[1:]
    cut.write_bytes(cut.read_bytes()[:900])
    table = pq.read_table(foreign)
    record = json.loads(table.schema.metadata[FOOTER_KEY]) | {"fingerprint": "other"}
    pq.write_table(table.replace_schema_metadata({FOOTER_KEY: json.dumps(record)}), foreign)
    summary = edit("edited", how={"n_attempts": 1})
    assert summary.n_shards == 1
    reasons = {Path(task.url).name: why for task, why in summary.failures}
    assert reasons.keys() == {cut.name, foreign.name}
    assert "of another run" in reasons[foreign.name]
    assert len(content("edited")) == 1


def test_refusals_before_ray_starts(smile, make_inverter, tmp_path):
    how = ClusterConfig()
    base = {"directions": ("smile.safetensors",), "strengths": (1.0,)}

    def refused(says, latents="latents", out="edited", kind=ConfigError, **settings):
        with pytest.raises(kind, match=says):
            prepare(latents, out, EditConfig(**{**base, **settings}), how)

    (tmp_path / "empty").mkdir()
    refused("holds no Parquet file", latents="empty")
    refused("--out is the folder that the latents are in", out="latents/")
    refused("no checkpoint at absent.pt", kind=CheckpointError, directions=("absent.pt",))
    refused("takes numbers", strengths=())
    refused("names a number twice", strengths=(1.0, 1.0))
    refused("SeFa has the components 0 to 15", directions=("sefa:99",))
    other = str(make_inverter(seed=5))
    refused("not the one that the latents are of", save_images=True, model=other)
    torch.save(torch.ones(1, 512), "ffhq.pt")
    refused("10 style vectors of 16", kind=CheckpointError, directions=("ffhq.pt",))
    assert not Path("edited").exists()


def test_other_settings_and_edits_of_edits_are_refused(edit, smile):
    edit("edited")
    with pytest.raises(ConfigError, match=r"edit_strengths: -2.0,2.0 there, 3.0 now"):
        edit("edited", strengths=(3.0,))
    config = EditConfig(("smile.safetensors",), (1.0,))
    with pytest.raises(ConfigError, match="holds edits already"):
        prepare("edited", "twice", config, ClusterConfig())
