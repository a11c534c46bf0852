"""Paths through latents, and the files that show them."""

import numpy as np
import pytest
import torch
from PIL import Image

from generators import directions
from pipeline.editing import animation
from pipeline.editing.interpolation import PathConfig, along, interpolate
from pipeline.editing.render import RenderConfig, render
from pipeline.errors import ConfigError
from pipeline.faces import images


@pytest.fixture
def latents(make_latents, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return make_latents(tmp_path / "latents")


def test_frames_lie_evenly_on_straight_lines():
    points = np.array([0.0, 1.0, 3.0], np.float32).reshape(3, 1, 1)
    assert along(points, 2, loop=False).ravel().tolist() == [0, 0.5, 1, 2, 3]
    assert along(points, 2, loop=True).ravel().tolist() == [0, 0.5, 1, 2, 3, 1.5]


def test_a_folder_of_frames(latents, tmp_path):
    n = interpolate(latents.path, "out", PathConfig(("0/1", "1/2"), steps=4))
    files = sorted((tmp_path / "out").iterdir())
    assert n == len(files) == 5
    between = 0.5 * (latents.latents[1:2] + latents.latents[8:9])
    with torch.inference_mode():
        expected = images.to_u8(latents.model.draw(torch.from_numpy(between))[0])
    assert np.abs(images.decode(files[2].read_bytes()).astype(int) - expected).max() <= 1


def test_an_animated_webp_along_a_direction(latents):
    step = torch.randn(latents.shape)
    directions.save("smile.safetensors", step, {}, "")
    config = PathConfig(
        ("0/1",), steps=3, direction="smile.safetensors", strengths=(-2, 0, 2), frames_per_s=10
    )
    assert interpolate(latents.path, "smile.webp", config) == 7
    with Image.open("smile.webp") as movie:
        assert (movie.n_frames, movie.size) == (7, (64, 64))
        movie.seek(3)
        middle = np.asarray(movie.convert("RGB")).astype(int)
        assert movie.info["duration"] == 100
    with torch.inference_mode():
        expected = images.to_u8(latents.model.draw(torch.from_numpy(latents.latents[1:2]))[0])
    assert np.abs(middle - expected).mean() < 8


def test_an_mp4(latents):
    av = pytest.importorskip("av")
    assert interpolate(latents.path, "out/morph.mp4", PathConfig(("0/1", "1/2"), steps=5)) == 6
    with av.open("out/morph.mp4") as movie:
        frames = [frame.to_ndarray(format="rgb24") for frame in movie.decode(video=0)]
        assert movie.streams.video[0].average_rate == 24
    assert len(frames) == 6
    with torch.inference_mode():
        expected = images.to_u8(latents.model.draw(torch.from_numpy(latents.latents[1:2]))[0])
    assert np.abs(frames[0].astype(int) - expected).mean() < 25  # colours at half resolution


def test_a_gif_has_the_frames_colours_and_the_size_that_is_asked_for(latents, tmp_path):
    config = PathConfig(("0/1", "1/2"), steps=5, frames_per_s=10, size=48)
    assert interpolate(latents.path, "morph.gif", config) == 6
    assert interpolate(latents.path, "frames", config) == 6
    with Image.open("morph.gif") as movie:
        assert (movie.size, movie.n_frames, movie.info["duration"]) == ((48, 48), 6, 100)
        for i, path in enumerate(sorted((tmp_path / "frames").iterdir())):
            movie.seek(i)
            frame = np.asarray(movie.convert("RGB")).astype(int)
            assert (
                np.abs(frame - np.asarray(Image.open(path))).mean() < 10
            )  # of noise in 256 colours


def test_without_its_library_an_mp4_is_refused_in_a_sentence(latents, monkeypatch, tmp_path):
    import sys

    monkeypatch.setitem(
        sys.modules, "av", None
    )  # what Python itself does for a package that is not there
    with pytest.raises(ConfigError, match=r"pip install 'restyle-batch\[video\]'"):
        interpolate(latents.path, "morph.mp4", PathConfig(("0/1", "1/2")))
    assert not (tmp_path / "morph.mp4").exists()


def test_a_folder_of_two_runs_is_refused(latents, make_latents, tmp_path):
    other = make_latents(tmp_path / "other", dtype="float16")
    name = sorted(p.name for p in (tmp_path / "latents").glob("*.parquet"))[1]
    (tmp_path / "latents" / name).write_bytes((tmp_path / "other" / name).read_bytes())
    with pytest.raises(ConfigError, match="belongs to a different run than the other files"):
        interpolate(latents.path, "out", PathConfig(("0/1", "1/2")))
    with pytest.raises(ConfigError, match="belongs to a different run than the other files"):
        render(latents.path, "out", RenderConfig(), lambda n: None)
    assert other.path


def test_refusals(latents, tmp_path, monkeypatch):
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pytest.raises(ConfigError, match="finite numbers"):
        PathConfig(("0/1",), direction="smile.pt", strengths=(float("nan"), 1.0))
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "000009.png").touch()
    with pytest.raises(ConfigError, match="already contains files"):
        interpolate(latents.path, "used", PathConfig(("0/1", "1/2")))
    with pytest.raises(ConfigError, match="choose another --out"):
        interpolate(latents.path, "used/000009.png/a.webp", PathConfig(("0/1", "1/2")))
    monkeypatch.setattr(animation, "MAX_BYTES", 64 * 64 * 3 * 5)
    with pytest.raises(ConfigError, match="6 frames of 64x64 are too many"):
        interpolate(latents.path, "out.webp", PathConfig(("0/1", "1/2"), steps=5))
    (tmp_path / "foreign").mkdir()
    pq.write_table(pa.table({"a": [1]}), tmp_path / "foreign" / "a.parquet")
    with pytest.raises(ConfigError, match="was not written by `restyle invert`"):
        interpolate(str(tmp_path / "foreign"), "out", PathConfig(("0/1", "1/2")))
    with pytest.raises(ConfigError, match="no latent with the key 'nobody'.*such as 0/0, 0/1, 0/2"):
        interpolate(latents.path, "out", PathConfig(("0/1", "nobody")))
    with pytest.raises(ConfigError, match="no latent with the key '0/5'"):  # the row that failed
        interpolate(latents.path, "out", PathConfig(("0/1", "0/5")))
    with pytest.raises(ConfigError, match="is a folder, a .webp, a .gif or an .mp4"):
        interpolate(latents.path, "out.avi", PathConfig(("0/1", "1/2")))
    with pytest.raises(ConfigError, match="a path needs two points"):
        PathConfig(("0/1",))
    with pytest.raises(ConfigError, match="go together"):
        PathConfig(("0/1", "1/2"), direction="smile.pt")


@pytest.mark.parametrize(
    ("keys", "settings", "says"),
    [
        (("a", "b"), {"steps": 999_999_999_999}, "frames is too long, 36,000 are the most"),
        (
            ("a",),
            {"direction": "x.pt", "strengths": (1.0, 1e300)},
            "no larger than latents can hold",
        ),
        (("a",), {"direction": "x.pt", "strengths": (1.0, float("nan"))}, "finite"),
    ],
)
def test_a_path_that_cannot_be_drawn(keys, settings, says):
    with pytest.raises(ConfigError, match=says):
        PathConfig(keys, **settings)
