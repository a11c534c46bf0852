"""Pictures of latents: names, sizes, resume, and pasted back into real shards."""

import numpy as np
import pytest
import torch

from pipeline.editing.render import RenderConfig, render
from pipeline.errors import ConfigError, ShardError
from pipeline.faces import images

QUAD = np.array([[20, 10], [20, 50], [60, 50], [60, 10]], np.float32)


@pytest.fixture
def latents(make_latents, tmp_path):
    return make_latents(tmp_path / "latents", quad=QUAD)


def draw(made, out, **settings):
    return render(made.path, str(out), RenderConfig(**settings), lambda n: None)


def test_every_row_with_a_latent_is_drawn_at_full_size(latents, tmp_path):
    done = draw(latents, tmp_path / "out", format="png")
    assert (done.n_written, done.n_there, done.n_without) == (10, 0, 2)
    found = sorted(p.relative_to(tmp_path / "out").as_posix() for p in tmp_path.rglob("*.png"))
    assert found[:2] == ["000/0/0.png", "000/0/1.png"]
    with torch.inference_mode():
        drawn = latents.model.draw(torch.from_numpy(latents.latents[7:8]))
    picture = images.decode((tmp_path / "out/001/1/1.png").read_bytes())
    assert picture.shape == (64, 64, 3)
    assert np.array_equal(picture, images.to_u8(drawn[0]))


def test_pictures_that_are_there_stay(latents, tmp_path):
    draw(latents, tmp_path / "out", limit=3)
    marked = tmp_path / "out/000/0/1.jpg"
    marked.write_bytes(b"mine")
    done = draw(latents, tmp_path / "out")
    assert (done.n_written, done.n_there) == (7, 3)
    assert marked.read_bytes() == b"mine"


def test_keys_choose_and_unknown_ones_are_told(latents, tmp_path):
    done = draw(latents, tmp_path / "out", keys=("1/2", "9/9"))
    assert done.n_written == 1
    assert done.keys_missing == {"9/9"}


def test_pasted_back_into_the_photo(latents, tmp_path, write_tar, photo):
    for s in range(2):
        members = [(f"{s}/{i}.png", photo(10 * s + i)) for i in range(6)]
        write_tar(tmp_path / f"{s:03}.tar", members)
    draw(latents, tmp_path / "out", paste_back=True, format="png")
    pasted = images.decode((tmp_path / "out/001/1/3.png").read_bytes())
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
        draw(latents, tmp_path / "out", paste_back=True)
    write_tar(tmp_path / "000.tar", [(f"0/{i}.png", photo(i, (90, 90))) for i in range(6)])
    with pytest.raises(ShardError, match="has changed since it was inverted"):
        draw(latents, tmp_path / "out", paste_back=True)


def test_refusals(make_latents, tmp_path):
    made = make_latents(tmp_path / "plain")
    with pytest.raises(ConfigError, match="invert with --align face"):
        draw(made, tmp_path / "out", paste_back=True)
    with pytest.raises(ConfigError, match="a local folder"):
        draw(made, "s3://bucket/out")


def test_of_no_latents_there_are_no_pictures(latents):
    from pipeline.latents import LatentDataset
    from pipeline.models import LatentRenderer

    renderer = LatentRenderer(LatentDataset(latents.path).footer)
    assert renderer.draw(np.zeros((0, *latents.shape), np.float32)) == []
