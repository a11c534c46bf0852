"""Clips become ordered samples with their times; what is no whole clip is refused in a sentence."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from clip_files import copied, quartered, write_clip
from PIL import Image

from pipeline.errors import ConfigError
from pipeline.shards import clip_packing, clips, reader

SOUND = np.zeros(8000, np.float32)


@pytest.fixture
def clip(tmp_path):
    return write_clip(tmp_path / "clip.mp4", quartered(12))


def samples(packed):
    fields = frozenset({"json"})
    return [[*reader.samples(shard, fields)] for shard in packed.shards]


def picture(sample):
    return np.asarray(Image.open(io.BytesIO(sample.image))).astype(int)


def test_frames_are_samples_in_order_with_their_times(clip, tmp_path):
    [shard] = samples(clip_packing.pack([clip], str(tmp_path / "sh" / "%06d.tar"), 1000))
    assert [sample.key for sample in shard] == [f"clip/{i:06}" for i in range(12)]
    told = [json.loads(sample.fields["json"]) for sample in shard]
    assert told[3] == {"clip": "clip", "frame": 3, "time_s": 0.125, "fps": 24.0}
    assert [round(one["time_s"] * 24) for one in told] == [*range(12)]
    for i, sample in enumerate(shard):
        assert np.abs(picture(sample)[40, 50] - [0, 6 * i, 255]).max() < 12


def test_a_png_holds_the_frame_as_it_was_decoded(clip, tmp_path):
    [shard] = samples(clip_packing.pack([clip], str(tmp_path / "%d.tar"), 9, "png"))
    for sample, frame in zip(shard, clips.frames(clip), strict=True):
        assert np.array_equal(picture(sample), frame.image_u8)


def test_times_that_vary_are_kept(tmp_path):
    times = [0, 0.04, 0.1, 0.5, 0.52]
    for ending in ("mp4", "mkv"):
        path = write_clip(tmp_path / f"clip.{ending}", quartered(5), times)
        found = [frame.time_s for frame in clips.frames(path)]
        assert found == pytest.approx(times, abs=1e-3)


def test_a_phone_held_upright_gives_upright_frames(clip, tmp_path):
    for turn, place in ((90, (-5, 5)), (-90, (5, -5)), (180, (-5, -5))):
        turned = copied(clip, tmp_path / "turned.mp4", turn=turn)
        frame = next(clips.frames(turned)).image_u8
        assert frame.shape == ((48, 64, 3) if turn == 180 else (64, 48, 3))
        assert np.abs(frame[place].astype(int) - [255, 0, 0]).max() < 12


def test_a_clip_is_never_parted_and_packing_again_gives_the_same_bytes(clip, tmp_path):
    folder = tmp_path / "clips"
    (folder / "b").mkdir(parents=True)
    for name in ("a.mp4", "b/a.mov", "c.d.mkv"):
        write_clip(folder / name, quartered(6))
    pattern = str(tmp_path / "sh" / "%d.tar")
    packed = clip_packing.pack([str(folder), clip], pattern, 10)
    keys = [[sample.key.rpartition("/")[0] for sample in shard] for shard in samples(packed)]
    assert keys == [["a"] * 6 + ["b/a"] * 6, ["c_d"] * 6 + ["clip"] * 12]
    before = [Path(shard).read_bytes() for shard in packed.shards]
    clip_packing.pack([str(folder), clip], pattern, 10)
    assert [Path(shard).read_bytes() for shard in packed.shards] == before
    assert len(clip_packing.pack([clip], pattern, 10).removed) == 1


def test_what_is_no_whole_clip_is_refused_and_leaves_nothing(clip, tmp_path):
    whole = write_clip(tmp_path / "fast.mp4", quartered(40), movflags="faststart")
    data = Path(whole).read_bytes()
    heard = write_clip(tmp_path / "heard.mp4", quartered(3), sound=SOUND)
    playlist = f"#EXTM3U\n#EXTINF:1,\n{clip}\n#EXT-X-ENDLIST\n".encode()
    files = {
        "cut.mp4": (data[: len(data) * 3 // 4], "is cut off: [0-9]+ of its 40 frames"),
        "head.mp4": (Path(clip).read_bytes()[:200], "cannot be read as a clip, or is damaged"),
        "list.mp4": (playlist, "cannot be read as a clip"),
        "song.m4a": (Path(copied(heard, tmp_path / "a", "audio")).read_bytes(), "only audio"),
    }
    for name, (content, said) in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ConfigError, match=said):
            clip_packing.pack([str(tmp_path / name)], str(tmp_path / "sh" / "%d.tar"), 10)
    assert not (tmp_path / "sh").exists() or not [*(tmp_path / "sh").iterdir()]


def test_clips_of_one_name_and_folders_without_one_are_refused(clip, tmp_path):
    (tmp_path / "other").mkdir()
    with pytest.raises(ConfigError, match="holds no clip"):
        clips.named([str(tmp_path / "other")])
    twin = write_clip(tmp_path / "other" / "clip.mkv", quartered(2))
    with pytest.raises(ConfigError, match="would both be the clip clip"):
        clips.named([clip, twin])
    with pytest.raises(ConfigError, match="must hold one number"):
        clip_packing.pack([clip, write_clip(tmp_path / "x.mp4", quartered(2))], "one.tar", 9)
