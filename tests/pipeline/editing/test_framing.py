"""Pictures of a StyleGAN3 turned as the faces were, and with margins."""

import json

import numpy as np
import pytest
import torch
from latent_folders import inverted, write_file

from encoders import load_inverter
from generators.motion import Margins, expanded
from pipeline.config import RunConfig
from pipeline.editing.render import RenderConfig, render
from pipeline.errors import ConfigError
from pipeline.faces import images, unaligned
from pipeline.models import checkpoint_hashes

NAMES = ("portrait", "turned_left")


@pytest.fixture(scope="module")
def rows(parity, stylegan3_inverter, tmp_path_factory):
    """A folder of two faces, one of them turned; its path, model, latents and poses."""
    told = json.loads((parity.folder / "sg3_landmark_transforms.json").read_text())["examples"]
    model = load_inverter(stylegan3_inverter)
    config = RunConfig(model=str(stylegan3_inverter), steps=1, metrics=())
    latents = torch.randn(2, 16, 8, generator=torch.Generator().manual_seed(1)).numpy()
    poses, made = [], []
    for i, name in enumerate(NAMES):
        landmarks = np.array(told[name]["raw_landmarks"], np.float32)
        quad = np.array(told[name]["align_quad"], np.float32)
        poses.append(unaligned.in_crop(landmarks, quad))
        place = {"landmarks": landmarks, "quad": quad, "width": 450, "height": 300}
        made.append(inverted(i, name, latents[i : i + 1], **place))
    folder = tmp_path_factory.mktemp("rows") / "latents"
    settings = {**config.settings(), **checkpoint_hashes(model)}
    write_file(folder, "0.parquet", made, config, (16, 8), settings)
    return str(folder), model, torch.from_numpy(latents), poses


def draw(folder, out, **settings):
    render(folder, str(out), RenderConfig(format="png", **settings), lambda n: None)
    return [images.decode((out / f"{name}.png").read_bytes()).astype(int) for name in NAMES]


@torch.inference_mode()
def test_faces_are_turned_as_they_were(rows, tmp_path):
    folder, model, latents, poses = rows
    transforms = np.stack([pose.transform for pose in poses])
    moved = torch.from_numpy(transforms).float()
    found = draw(folder, tmp_path / "turned", unaligned=True, batch_size=1)
    for one, image in zip(found, model.draw(latents, transform=moved), strict=True):
        assert np.abs(one - images.to_u8(image)).max() <= 1
    # The upright one hardly moves, the other does.
    turned, still = found[1], draw(folder, tmp_path / "still")[1]
    assert np.abs(turned - still).max() > 30
    wide = draw(folder, tmp_path / "wide", unaligned=True, margin=4)
    expected = expanded(model.generator.synthesis, latents, Margins(4, 4, 4, 4), transforms)
    for one, image, inner in zip(wide, expected, found, strict=True):
        assert one.shape == (40, 40, 3)
        assert np.abs(one - images.to_u8(image)).max() <= 1
        assert np.abs(one[4:36, 4:36] - inner).max() <= 1
    tuned = draw(folder, tmp_path / "again", margin=4)
    assert np.abs(tuned[1][4:36, 4:36] - still).max() <= 1


def test_what_cannot_be_framed_says_why(rows, write_latents, make_latents, tmp_path):
    folder = rows[0]
    with pytest.raises(ConfigError, match="leave out --unaligned, or --paste-back"):
        draw(folder, tmp_path, unaligned=True, paste_back="replace")
    with pytest.raises(ConfigError, match="at most the picture's own 32 pixels, not 33"):
        draw(folder, tmp_path, margin=33)
    with pytest.raises(ConfigError, match="how the faces lay .* invert with --align face"):
        draw(write_latents(), tmp_path, unaligned=True)
    other = make_latents(tmp_path / "stylegan2", n_shards=1, quad=np.eye(4, 2, dtype=np.float32))
    with pytest.raises(ConfigError, match="and these latents are a StyleGAN2's"):
        draw(other.path, tmp_path, margin=3)
