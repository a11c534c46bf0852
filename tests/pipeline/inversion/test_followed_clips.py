"""Clips through a whole inversion: every frame a row, once, whatever stops it or however it is spread."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks.video import portrait_clip
from pipeline.clip_config import ClipConfig
from pipeline.config import RunConfig
from pipeline.errors import ConfigError
from pipeline.faces import images, tracking
from pipeline.latents import LatentDataset

ROOT = Path(__file__).parents[3]
BLANK = {3, 4, 10, 11, 12}  # of the first clip; a gap of two, and one of three
HOW = {"align": "face", "latents": "all", "clips": ClipConfig(3, 3, gap=2)}


@pytest.fixture(scope="module")
def shard(tmp_path_factory, write_tar):
    """Two clips: of 16 frames, some without a face and one damaged, and of 5."""
    nothing = images.encode_png(np.full((128, 128, 3), 120, np.uint8))
    members = []
    for name, n, seed in (("a", 16, 3), ("b", 5, 11)):
        for i, frame in enumerate(portrait_clip(n, 128, seed)):
            data = nothing if name == "a" and i in BLANK else images.encode_png(frame)
            data = b"damaged" if (name, i) == ("a", 7) else data
            labels = b'{"clip": "%s", "time_s": %.3f}' % (name.encode(), i / 24)
            members += [(f"{name}/{i:06}.png", data), (f"{name}/{i:06}.json", labels)]
    return write_tar(tmp_path_factory.mktemp("clips") / "000000.tar", members)


@pytest.fixture(scope="module")
def whole(shard, invert_to, tmp_path_factory):
    """The folder of a run that nothing stopped."""
    out = str(tmp_path_factory.mktemp("whole") / "out")
    invert_to(out, shard, **HOW)
    return out


def content(folder):
    return {path.name: path.read_bytes() for path in Path(folder).glob("*.parquet")}


def rows(folder):
    return [
        {name: np.asarray(v) if hasattr(v, "shape") else v for name, v in row.items()}
        for row in LatentDataset(str(folder))
    ]


def test_every_frame_is_a_row_which_says_how_its_face_was_found(whole):
    found = rows(whole)
    assert [row["sample_index"] for row in found] == [*range(21)]
    told = {"decode_error": "x", "no_face": "-"}
    assert "".join(told.get(r["status"], str(r["track"])) for r in found) == "0000000x00---11100000"
    assert [i for i, row in enumerate(found) if row["is_interpolated"]] == [3, 4]
    assert [found[i]["n_faces"] for i in (2, 3, 10)] == [1, 0, 0]
    assert found[3]["label_time_s"] == 0.125
    assert np.abs(np.diff([found[i]["quad"] for i in range(2, 6)], axis=0)).max() < 6


def test_latents_are_averages_over_the_track_and_the_raw_ones_are_kept(whole):
    found = rows(whole)
    ok = [row["status"] == "ok" for row in found]
    for i, row in enumerate(found):
        if not ok[i]:
            continue
        near = [
            found[j]["latents_by_step"][-1]
            if 0 <= j < 21 and ok[j] and (j < 16) == (i < 16) and found[j]["track"] == row["track"]
            else None
            for j in (i - 1, i, i + 1)
        ]
        expected = tracking.smoothed(near, tracking.kernel(3))
        np.testing.assert_allclose(row["latent"], expected, atol=1e-6)
    assert not np.allclose(found[1]["latent"], found[1]["latents_by_step"][-1], atol=1e-4)


def test_rows_do_not_depend_on_the_batches(shard, whole, invert, tmp_path):
    invert(shard, how={"batch_size": 3}, **HOW)
    for a, b in zip(rows(whole), rows(tmp_path / "out"), strict=True):
        assert (a["key"], a["status"], a["track"]) == (b["key"], b["status"], b["track"])
        for name in ("quad", "latent") if a["status"] == "ok" else ():
            np.testing.assert_allclose(a[name], b[name], atol=1e-4)


KILLED = """
import os, signal, sys
from jobs import cli
from pipeline.latents.writer import ShardWriter
add = ShardWriter.add
def killing(self, rows):
    add(self, rows)
    if self.n_rows >= 8:
        os.kill(os.getpid(), signal.SIGKILL)
ShardWriter.add = killing
sys.argv = ["restyle", *sys.argv[1:]]
cli.program()
"""


def test_killed_in_the_middle_of_a_clip_it_goes_on_to_the_same_bytes(
    shard, whole, tiny_inverter, invert, tmp_path
):
    words = "--executor local --metrics mse --steps 2 --latents all --video --landmark-window 3"
    words = [*words.split(), "--latent-window", "3", "--video-gap", "2"]
    command = ["invert", shard, "--out", tmp_path / "out", "--model", tiny_inverter, *words]
    run = subprocess.run(
        [sys.executable, "-c", KILLED, *map(str, command)],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == -signal.SIGKILL, run.stderr
    assert content(tmp_path / "out") == {}
    invert(shard, **HOW)
    assert content(tmp_path / "out") == content(whole)


def test_on_ray_it_writes_the_same_bytes(shard, whole, invert_on_ray, tmp_path):
    invert_on_ray(shard, **HOW)
    assert content(tmp_path / "out") == content(whole)


def test_what_cannot_be_followed_is_refused_and_nothing_else_has_another_fingerprint(
    shard, tmp_path, invert
):
    with pytest.raises(ConfigError, match="follows one face"):
        RunConfig(faces="all", clips=ClipConfig())
    with pytest.raises(ConfigError, match="--latent-window must be an odd number"):
        ClipConfig(latent_window=4)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"x")
    with pytest.raises(ConfigError, match="--video takes tars.*restyle pack"):
        invert(tmp_path / "photos", **HOW)
    video = RunConfig(clips=ClipConfig(7, 9, 3)).settings()
    extra = {"landmark_window": 7, "latent_window": 9, "video_gap": 3, "keep_fields": ["json"]}
    assert video == RunConfig().settings() | extra
    plain = RunConfig(clips=ClipConfig(), align="none").settings()
    assert plain.keys() - RunConfig().settings().keys() == {"latent_window", "keep_fields"}


def test_pictures_that_are_not_aligned_are_averaged_too(shard, invert, tmp_path):
    invert(shard, align="none", clips=ClipConfig(latent_window=21))
    [file] = (tmp_path / "out").glob("*.parquet")
    assert "track" not in pq.read_schema(file).names
    latents = [row["latent"] for row in rows(tmp_path / "out") if row["status"] == "ok"]
    assert np.abs(np.diff(latents[:15], axis=0)).max() < np.abs(latents[14] - latents[15]).max()
