"""Folders that earlier releases wrote, with the tiny model of theirs: read, checked, reported, continued.

`protocol1` is from commit 451b687, `protocol2` and its `edits2` from 3858898, before the rooms; `protocol3`
and its `edits3` are from 8421aaa, with lists in lists and clamped pictures. All are from the shards
`pipe:cat 0.tar` and `pipe:cat 1.tar` (three samples each, one of them damaged) by `tiny.safetensors`.
`demo_v1` is from a871218, of the first shard by version 1 of the demo.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline import LatentDataset, report
from pipeline.config import ClusterConfig, RunConfig
from pipeline.editing.edit import EditConfig, plan_edit
from pipeline.engine import audit
from pipeline.errors import ConfigError
from pipeline.inversion.run import plan_inversion

STORED = Path(__file__).parent.parent / "data" / "old_runs"
SHARDS = ("pipe:cat 0.tar", "pipe:cat 1.tar")
SETTINGS = {
    "model": "tiny.safetensors", "align": "none", "steps": 2, "metrics": ("mse", "psnr"),
    "latents": "all", "save_images": True, "keep_fields": ("json",),
}  # fmt: skip


@pytest.fixture
def old(tmp_path, monkeypatch):
    """A copy of the old folders, which is the working directory."""
    shutil.copytree(STORED, tmp_path / "old")
    monkeypatch.chdir(tmp_path / "old")
    return tmp_path / "old"


def restyle(*words):
    command = [Path(sys.executable).with_name("restyle"), *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("folder", ["protocol1", "protocol2", "protocol3"])
def test_is_read_checked_and_reported(old, folder):
    files = audit.files(folder)
    assert [found.problems for found in audit.verify(folder, files)] == [[], []]
    assert audit.missing(folder) == []
    assert audit.status(folder).n_by_status == {"ok": 5, "decode_error": 1}
    rows = LatentDataset(folder, columns=["key", "latent", "mse", "label_smile"])
    assert [row["key"] for row in rows] == ["00", "01", "02", "10", "11", "12"]
    assert np.isfinite(rows.latents()).all()
    written = report.write(folder, old / "report.html", model="tiny.safetensors")
    assert written.n_shown == 5


@pytest.mark.parametrize("folder", ["edits2", "edits3"])
def test_edits_are_read_checked_and_reported(old, folder):
    assert [found.problems for found in audit.verify(folder, audit.files(folder))] == [[], []]
    assert len(LatentDataset(folder, where="strength > 0 and status == 'ok'")) == 5
    assert report.write(folder, old / "report.html", model="tiny.safetensors").n_shown


@pytest.mark.parametrize("folder", ["protocol1", "protocol2"])
def test_one_of_an_older_protocol_is_not_continued(old, folder):
    with pytest.raises(
        ConfigError, match="begun by another release.*can be read, edited and report"
    ):
        plan_inversion(SHARDS, folder, RunConfig(**SETTINGS), ClusterConfig())


def test_a_folder_of_the_first_demo_is_read_edited_and_reported(old):
    """Its generator is still the demo's."""
    assert [found.problems for found in audit.verify("demo_v1", audit.files("demo_v1"))] == [[]]
    assert report.write("demo_v1", old / "report.html").n_shown == 2
    edit = EditConfig(directions=("demo:smile",), strengths=(1.0,))
    plan = plan_edit("demo_v1", str(old / "edits"), edit, ClusterConfig())
    assert len(plan.pending) == 1


def test_going_on_in_a_folder_of_the_first_demo_says_how_to_get_it(old):
    run = RunConfig(align="none", steps=2, metrics=("mse",))
    with pytest.raises(ConfigError) as refused:
        plan_inversion(SHARDS[:1], "demo_v1", run, ClusterConfig())
    said = str(refused.value)
    assert "git show c6b263e:encoders/weights/demo.safetensors > demo_v1.safetensors" in said
    assert "--model demo_v1.safetensors" in said


@pytest.mark.slow
def test_is_continued_and_edited_to_the_same_rows(old):
    for name in ("pipeline.py", "jobs.py", "generators.py", "encoders/__init__.py"):
        # What a user may have in the folder: no worker imports it in the place of ours.
        (old / name).parent.mkdir(exist_ok=True)
        (old / name).write_text(f"open({str(old / 'ran')!r}, 'w')")
    first, second = sorted((old / "protocol3").glob("*.parquet"))
    before, rows = first.stat().st_mtime_ns, pq.read_table(second)
    second.unlink()
    words = (
        "--model", "tiny.safetensors", "--align", "none", "--steps", "2", "--metrics", "mse,psnr",
    )  # fmt: skip
    kept = ("--latents", "all", "--save-images", "--keep-fields", "json")
    text = restyle("invert", *SHARDS, "--out", "protocol3", *words, *kept)
    assert "1 of 2 shards were finished before" in text
    assert first.stat().st_mtime_ns == before
    require_equal(pq.read_table(second), rows)

    for name, edited in (("protocol3", "edits3"), ("protocol2", "edits2")):
        restyle(
            "edit", name, "--out", f"{name}_edits", "--direction", "sefa:0", "--strengths=-1,1",
            "--model", "tiny.safetensors",
        )  # fmt: skip
        new, then = (sorted((old / d).glob("*.parquet")) for d in (f"{name}_edits", edited))
        for one, other in zip(new, then, strict=True):
            require_equal(pq.read_table(one), pq.read_table(other), but=("shard",))
    assert not (old / "ran").exists()


def require_equal(one, other, but=()):
    """The same rows: numbers to 1e-5, everything else exactly; pictures are not compared."""
    assert one.schema.names == other.schema.names
    for name in one.schema.names:
        left, right = one[name].combine_chunks(), other[name].combine_chunks()
        if name.startswith("latent") or name in ("mse", "psnr", "quad"):
            flat = [np.array(c.drop_null().to_pylist(), float).ravel() for c in (left, right)]
            np.testing.assert_allclose(*flat, atol=1e-5, rtol=1e-5, err_msg=name)
        elif name not in ("aligned_image", "reconstruction", *but):
            assert left.to_pylist() == right.to_pylist(), name
