"""Rows of a clip become the clip again: its frames, its times, its sound."""

import shutil
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from clip_files import quartered, write_clip

from pipeline.clip_config import ClipConfig
from pipeline.config import ClusterConfig
from pipeline.editing.clip_rendering import render_clip
from pipeline.editing.edit import EditConfig, plan_edit
from pipeline.editing.render import RenderConfig, render
from pipeline.engine.run import execute
from pipeline.errors import ConfigError
from pipeline.faces import images
from pipeline.shards import clip_packing, clips

N = 12
TIMES = [i / 24 + (0.25 if i > 5 else 0) for i in range(N)]  # a frame that stands for longer
SOUND = np.sin(np.arange(12_000) / 16_000 * 440 * 2 * np.pi).astype(np.float32) / 4
VIDEO = RenderConfig(video=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, invert_to):
    """A clip with sound, its shard, and its latents: `aligned`, where no face is found, and `whole` frames.

    Of these there are edits: `edited`.
    """
    found = tmp_path_factory.mktemp("clip")
    clip = write_clip(found / "clip.mp4", quartered(N), TIMES, sound=SOUND)
    [shard] = clip_packing.pack([clip], str(found / "sh" / "%06d.tar"), 1000).shards
    for name, align in (("whole", "none"), ("aligned", "face")):
        invert_to(str(found / name), shard, align=align, clips=ClipConfig())
    edit(found / "whole", found / "edited", (20.0,))
    return found


def edit(latents, out, strengths):
    how = ClusterConfig(executor="local")
    plan = plan_edit(str(latents), str(out), EditConfig(("sefa:0",), strengths), how)
    execute(plan, how, lambda summary, begun: None)


def draw(latents, out, config=VIDEO):
    return render_clip(str(latents), str(out), config, lambda n: None)


def heard(path):
    """The sound of a file, [n] float."""
    with av.open(str(path)) as movie:
        return np.concatenate([f.to_ndarray()[0] for f in movie.decode(movie.streams.audio[0])])


def test_frames_are_drawn_at_their_times_with_the_sound_of_the_clip(folder, tmp_path):
    clip = str(folder / "clip.mp4")
    done = draw(folder / "edited", tmp_path / "out.mp4", replace(VIDEO, clip=clip))
    assert (done.n_written, done.n_without, done.sound) == (N, 0, clip)
    frames = list(clips.frames(str(tmp_path / "out.mp4")))
    assert [frame.time_s for frame in frames] == pytest.approx(TIMES, abs=1e-4)
    render(str(folder / "edited"), str(tmp_path / "png"), RenderConfig(paste_back="difference", format="png"),
        lambda n: None)  # fmt: skip
    for frame, path in zip(frames, sorted((tmp_path / "png").rglob("*.png")), strict=True):
        difference = frame.image_u8.astype(int) - images.decode(path.read_bytes())
        assert np.abs(difference).mean() < 6  # of coding
    assert np.array_equal(heard(tmp_path / "out.mp4"), heard(clip))


def test_sound_that_an_mp4_cannot_hold_is_coded_anew(folder, tmp_path):
    other = write_clip(tmp_path / "clip.mkv", quartered(N), TIMES, sound=SOUND, codec="pcm_s16le")
    done = draw(folder / "edited", tmp_path / "out.mp4", replace(VIDEO, clip=other))
    assert done.sound == other
    with av.open(str(tmp_path / "out.mp4")) as movie:
        assert movie.streams.audio[0].codec_context.name == "aac"
    level = np.sqrt(np.square(heard(tmp_path / "out.mp4")[2000:10_000]).mean())
    assert level == pytest.approx(0.25 / np.sqrt(2), rel=0.05)


def test_frames_without_a_latent_are_as_they_were(folder, tmp_path):
    done = draw(folder / "aligned", tmp_path / "out.mp4")
    assert (done.n_written, done.n_without, done.sound) == (N, N, None)
    with av.open(str(tmp_path / "out.mp4")) as movie:
        assert not movie.streams.audio
    pairs = zip(clips.frames(str(tmp_path / "out.mp4")), quartered(N), strict=True)
    for frame, original in pairs:
        assert np.abs(frame.image_u8.astype(int) - original).mean() < 4


def test_what_makes_no_clip_is_refused(folder, tmp_path, invert_to):
    out = tmp_path / "out.mp4"
    with pytest.raises(ConfigError, match="--video writes an .mp4"):
        draw(folder / "whole", tmp_path / "out")
    with pytest.raises(
        ConfigError, match="no one clip of these rows has that name; they are: clip"
    ):
        draw(folder / "whole", out, replace(VIDEO, clip="other"))
    with pytest.raises(ConfigError, match="do not tell where they were"):
        draw(folder / "whole", out)
    edit(folder / "whole", tmp_path / "edits", (-1.0, 1.0))
    with pytest.raises(ConfigError, match="several pictures of each frame"):
        draw(tmp_path / "edits", out)
    second = shutil.copy(folder / "clip.mp4", tmp_path / "second.mp4")
    pattern = str(tmp_path / "%d.tar")
    [shard] = clip_packing.pack([str(folder / "clip.mp4"), second], pattern, 100).shards
    invert_to(str(tmp_path / "two"), shard, align="face", clips=ClipConfig())
    with pytest.raises(ConfigError, match="several clips; name one by --clip: clip, second"):
        draw(tmp_path / "two", out)
    assert draw(tmp_path / "two", out, replace(VIDEO, clip="second")).n_written == N
    invert_to(str(tmp_path / "plain"), shard, align="face")
    with pytest.raises(ConfigError, match="do not tell the times"):
        draw(tmp_path / "plain", out, replace(VIDEO, clip="clip"))
    assert [path.name for path in Path(tmp_path).glob("*.mp4*")].count("out.mp4") == 1
