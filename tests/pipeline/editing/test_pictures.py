"""Pictures of latents: names, sizes, resume, and pasted back into real shards."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from jobs.cli import cli
from pipeline.editing.render import RenderConfig, render
from pipeline.errors import ConfigError, ShardError
from pipeline.faces import images

QUAD = np.array([[20, 10], [20, 50], [60, 50], [60, 10]], np.float32)


@pytest.fixture
def latents(make_latents, tmp_path):
    return make_latents(tmp_path / "latents", quad=QUAD)


def draw(made, out, **settings):
    return render(getattr(made, "path", made), str(out), RenderConfig(**settings), lambda n: None)


def test_every_row_with_a_latent_is_drawn_at_full_size(latents, tmp_path):
    done = draw(latents, tmp_path / "out", format="png")
    assert (done.n_written, done.n_there, done.n_without) == (10, 0, 2)
    found = sorted(p.relative_to(tmp_path / "out").as_posix() for p in tmp_path.rglob("*.png"))
    assert found[:2] == ["0/0.png", "0/1.png"]
    assert done.first == tmp_path / "out/0/0.png"
    with torch.inference_mode():
        drawn = latents.model.draw(torch.from_numpy(latents.latents[7:8]))
    picture = images.decode((tmp_path / "out/1/1.png").read_bytes())
    assert picture.shape == (64, 64, 3)
    assert np.array_equal(picture, images.to_u8(drawn[0]))


def test_pictures_that_are_there_stay(latents, tmp_path):
    draw(latents, tmp_path / "out", limit=3)
    marked = tmp_path / "out/0/1.jpg"
    marked.write_bytes(b"mine")
    done = draw(latents, tmp_path / "out")
    assert (done.n_written, done.n_there) == (7, 3)
    assert marked.read_bytes() == b"mine"


def test_keys_choose_and_unknown_ones_are_told(latents, tmp_path):
    done = draw(latents, tmp_path / "out", keys=("1/2", "9/9"))
    assert done.n_written == 1
    assert done.keys_missing == {"9/9"}


@pytest.fixture
def shards(tmp_path, write_tar, photo):
    """The photos of the rows."""
    for s in range(2):
        members = [(f"{s}/{i}.png", photo(10 * s + i)) for i in range(6)]
        write_tar(tmp_path / f"{s:03}.tar", members)


def test_pasted_back_into_the_photo(latents, tmp_path, shards, photo):
    done = draw(latents, tmp_path / "out", paste_back="auto", format="png")
    assert done.replaced == "these rows are inversions, not edits"
    pasted = images.decode((tmp_path / "out/1/3.png").read_bytes())
    original = images.decode(photo(13))
    assert pasted.shape == original.shape
    changed = np.abs(pasted.astype(int) - original).sum(axis=2) > 0
    assert changed[15:45, 25:55].mean() > 0.9
    outside = np.ones_like(changed)
    outside[9:52, 19:62] = False
    assert not changed[outside].any()
    with torch.inference_mode():
        drawn = latents.model.draw(torch.from_numpy(latents.latents[9:10]))
    face = images.to_u8(drawn[0]).astype(int)
    middle = face[16:48, 16:48].mean(axis=(0, 1))
    np.testing.assert_allclose(pasted[20:40, 30:50].mean(axis=(0, 1)), middle, atol=3)


def test_a_shard_that_changed_is_not_pasted_into(latents, tmp_path, write_tar, photo):
    with pytest.raises((ShardError, ConfigError), match="000.tar"):
        draw(latents, tmp_path / "out", paste_back="replace")
    write_tar(tmp_path / "000.tar", [(f"0/{i}.png", photo(i, (90, 90))) for i in range(6)])
    with pytest.raises(ShardError, match="has changed since it was inverted"):
        draw(latents, tmp_path / "out", paste_back="replace")


def test_what_an_edit_changed_is_added_to_the_photo(latents, tmp_path, shards, photo, make_edited):
    edited = make_edited(latents, tmp_path / "edited", (-0.5, 0.0, 0.5))
    done = draw(edited, tmp_path / "out", paste_back="auto", format="png", batch_size=2)
    assert (done.n_written, done.replaced) == (30, "")
    original = images.decode(photo(13)).astype(int)
    same = images.decode((tmp_path / "out/1/3_d+0.png").read_bytes())
    assert np.abs(same - original).max() <= 1  # of a float32 that came and went
    drawn = {
        strength: images.decode((tmp_path / f"plain/1/3_d{strength}.png").read_bytes()).astype(int)
        for strength in ("+0", "+0.5")
        if draw(edited, tmp_path / "plain", format="png")
    }
    change = (drawn["+0.5"] - drawn["+0"])[24:40, 24:40].mean(axis=(0, 1))
    moved = images.decode((tmp_path / "out/1/3_d+0.5.png").read_bytes()) - original
    np.testing.assert_allclose(moved[25:35, 35:45].mean(axis=(0, 1)), change, atol=2)
    assert not moved[52:].any()


def test_of_edits_whose_latents_are_gone_faces_are_replaced_and_it_is_said(
    latents, tmp_path, shards, make_edited, make_latents
):
    edited = make_edited(latents, tmp_path / "edited")
    (tmp_path / "latents").rename(tmp_path / "moved")
    done = draw(edited, tmp_path / "out", paste_back="auto")
    assert "is not on this machine; pass --source with the folder" in done.replaced
    with pytest.raises(ConfigError, match="is not on this machine; pass --source"):
        draw(edited, tmp_path / "asked", paste_back="difference")
    moved = str(tmp_path / "moved")
    assert draw(edited, tmp_path / "b", paste_back="difference", source=moved).n_written == 10
    make_latents(tmp_path / "latents", quad=QUAD, dtype="float16")
    with pytest.raises(ConfigError, match="is not the file that was edited; pass --source"):
        draw(edited, tmp_path / "c", paste_back="auto", source=latents.path)
    done = draw(edited, tmp_path / "d", paste_back="auto")
    assert "has changed since it was edited" in done.replaced
    with pytest.raises(ConfigError, match="not a command"):
        draw(edited, tmp_path / "e", paste_back="auto", source="pipe:cat")


def test_an_edit_of_a_picture_that_was_not_aligned(make_latents, tmp_path, shards, make_edited):
    edited = make_edited(make_latents(tmp_path / "plain"), tmp_path / "edited")
    assert draw(edited, tmp_path / "out", paste_back="auto", limit=1).n_written == 1
    with pytest.raises(ConfigError, match="invert with --align face"):
        draw(edited, tmp_path / "out", paste_back="replace")


def test_the_edits_of_a_photo_are_frames(latents, tmp_path, shards, make_edited):
    edited = make_edited(latents, tmp_path / "edited", (-0.5, 0.0, 0.5))
    how = {"keys": ("1/3",), "paste_back": "auto"}
    done = draw(edited, tmp_path / "m.gif", **how, frames_per_s=5)
    assert (done.n_written, done.first) == (3, None)
    with Image.open(tmp_path / "m.gif") as movie:
        assert (movie.size, movie.n_frames, movie.info["duration"]) == ((80, 60), 3, 200)
    with pytest.raises(ConfigError, match="no row that is chosen has a latent"):
        draw(edited, tmp_path / "n.webp", keys=("1/5",))
    assert not (tmp_path / "n.webp").exists()


def test_keys_that_two_shards_have_are_parted_by_folders(make_latents, tmp_path):
    made = make_latents(tmp_path / "latents", n_rows=3)
    for path in Path(made.path).glob("*.parquet"):
        table = pq.read_table(path)
        key = pa.array([f"k{i}" for i in range(len(table))])
        place = table.schema.get_field_index("key")
        pq.write_table(table.set_column(place, table.schema.field("key"), key), path)
    assert draw(made, tmp_path / "out").n_written == 4
    found = sorted(p.relative_to(tmp_path / "out").as_posix() for p in tmp_path.rglob("*.jpg"))
    assert found == ["000/k0.jpg", "000/k1.jpg", "001/k0.jpg", "001/k1.jpg"]


def test_pictures_of_the_size_that_is_asked_for(latents, tmp_path, shards):
    for name, more in (("plain", {}), ("pasted", {"paste_back": "replace"})):
        draw(latents, tmp_path / name, size=40, limit=1, **more)
    sizes = [images.decode(p.read_bytes()).shape for p in sorted(tmp_path.rglob("0/0.jpg"))]
    assert sizes == [(30, 40, 3), (40, 40, 3)]


def test_the_command_says_where_pictures_went_and_knows_the_bare_flag(
    latents, tmp_path, shards, make_edited
):
    edited = make_edited(latents, tmp_path / "edited")

    def said(*words):
        result = CliRunner().invoke(cli, ["render", *map(str, words)])
        assert result.exit_code == 0, result.output
        return result.output

    out = tmp_path / "out"
    told = said("--paste-back", edited, "--out", out, "--limit", 2)
    assert f"2 pictures: {out} (the first is {out / '0/0_d+2.jpg'})" in told
    for words in (("--paste-back", "difference"), ("--paste-back=difference",)):
        said(edited, "--out", tmp_path / words[0], *words, "--limit", 1)
        found = (tmp_path / words[0] / "0/0_d+2.jpg").read_bytes()
        assert found == (out / "0/0_d+2.jpg").read_bytes()
    told = said(latents.path, "--out", tmp_path / "l", "--paste-back")
    assert "faces were replaced by the drawn ones: these rows are inversions" in told
    result = CliRunner().invoke(cli, ["render", latents.path, "--out", "o", "--paste-back=no"])
    assert "'no' is not one of 'auto', 'difference', 'replace'" in result.output


def test_refusals(make_latents, tmp_path):
    made = make_latents(tmp_path / "plain")
    with pytest.raises(ConfigError, match="invert with --align face"):
        draw(made, tmp_path / "out", paste_back="replace")
    with pytest.raises(ConfigError, match="these rows are inversions, not edits"):
        draw(made, tmp_path / "out", paste_back="difference")
    with pytest.raises(ConfigError, match="a local folder"):
        draw(made, "s3://bucket/out")


def test_of_no_latents_there_are_no_pictures(latents):
    from pipeline.latents import LatentDataset
    from pipeline.models import LatentRenderer

    renderer = LatentRenderer(LatentDataset(latents.path).footer)
    assert renderer.draw(np.zeros((0, *latents.shape), np.float32)) == []
