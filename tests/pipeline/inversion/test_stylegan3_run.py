"""A run whose generator is a StyleGAN3: from photos to rows, edits and pictures, as with any other."""

from importlib.resources import files

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from encoders import bound as bounds
from encoders import load_inverter
from generators import directions
from jobs.cli import cli
from pipeline import Inverter, LatentDataset
from pipeline.editing.render import RenderConfig, render
from pipeline.faces import images
from pipeline.faces.unaligned import in_crop


@pytest.fixture
def photos(tmp_path, photo):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(3):
        (folder / f"{i}.png").write_bytes(photo(i, (32, 32)))
    return str(folder)


def read(folder, **options):
    return [LatentDataset(str(folder), **options)[i] for i in range(3)]


def restyle(*arguments):
    result = CliRunner().invoke(cli, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_rows_hold_what_the_model_answers(
    stylegan3_inverter, photos, invert, tmp_path, photo, one_thread
):
    run = {"model": str(stylegan3_inverter), "latents": "all", "save_images": True, "steps": 2}
    assert invert(photos, **run).n_by_status == {"ok": 3}
    given = np.stack([images.decode(photo(i, (32, 32))) for i in range(3)])
    model = load_inverter(stylegan3_inverter)
    found = model.invert_pixels(torch.from_numpy(given), 2)
    for i, row in enumerate(read(tmp_path / "out", columns=None)):
        np.testing.assert_allclose(row["latents_by_step"], found.latents[:, i], atol=1e-5)
    out = tmp_path / "out"
    restyle("edit", out, "--out", tmp_path / "edited", "--direction", "sefa:0", "--strengths=-2,2")
    moved = read(tmp_path / "edited")[0]["latent"]
    direction = directions.sefa(model.generator, 0, range(16))
    np.testing.assert_allclose(moved, found.latents[-1, 0] - 2 * direction, atol=1e-5)
    done = render(str(out), str(tmp_path / "p"), RenderConfig(format="png"), lambda n: None)
    drawn = images.decode(done.first.read_bytes()).astype(int)
    with torch.inference_mode():
        expected = images.to_u8(model.draw(found.latents[-1, :1])[0])
    assert np.abs(drawn - expected).max() <= 1
    restyle("report", out, "--out", tmp_path / "report.html")
    assert "0 problems" in restyle("verify", out)


@pytest.mark.slow
def test_steps_of_their_own_refinement_and_tuning(
    stylegan3_inverter, photos, invert, tmp_path, one_thread
):
    run = {"model": str(stylegan3_inverter), "steps": -1, "max_steps": 3, "latents": "best"}
    invert(photos, refine=5, **run)
    for row in read(tmp_path / "out"):
        n = row["n_steps"]
        assert row["mse"][n - 1] < 0.9 * min(row["mse"][: n - 1])
    invert(photos, out="bounded", bound=0.5, init="random", **run)
    bound = bounds.of_generator(load_inverter(stylegan3_inverter).generator, 0.5)
    for row in read(tmp_path / "bounded"):
        along = (row["latent"].double() - bound.mean) @ bound.axes
        assert (along.abs() / bound.spread).max() < 0.51
    folder = str(tmp_path / "out")
    chosen = RenderConfig(pivot=20, limit=1)
    done = render(folder, str(tmp_path / "tuned"), chosen, lambda n: None)
    assert done.tunings.after[0] < 0.98 * done.tunings.before[0]


def test_one_photo_of_a_face_is_drawn_as_it_lay(stylegan3_inverter):
    photo = files("pipeline.portraits") / "astronaut.jpg"
    [face] = Inverter(stylegan3_inverter, "cpu", steps=1, metrics="mse").invert(photo)
    edited = face.edit("sefa:1", 3.0)
    transform = torch.from_numpy(in_crop(face.landmarks, face.quad).transform).float()
    with torch.inference_mode():
        drawn = load_inverter(stylegan3_inverter).draw(edited.latent[None], transform=transform)
    found = np.asarray(edited.unaligned(), int)
    assert np.abs(found - images.to_u8(drawn[0])).max() <= 1
    assert np.abs(found - np.asarray(edited.image, int)).max() > 2
    wide = np.asarray(edited.unaligned(margin=2), int)
    assert np.abs(wide[2:-2, 2:-2] - found).max() <= 1


def test_one_photo(stylegan3_inverter, photo):
    inverter = Inverter(stylegan3_inverter, "cpu", steps=2, align="none", metrics="mse")
    [face] = inverter.invert(photo(1, (32, 32)))
    edited = face.edit("sefa:1@2-9", 3.0)
    assert (edited.latent - face.latent).norm() > 1
    assert np.abs(np.asarray(edited.image, int) - np.asarray(face.image, int)).max() > 0
