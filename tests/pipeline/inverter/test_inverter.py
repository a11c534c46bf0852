"""One photo in this process: every way to give it, what comes of it, and what is said of a bad one."""

import io
import warnings
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from encoders import load_inverter
from encoders.metrics import distances
from generators import directions
from generators.files.checkpoint import CheckpointError
from pipeline import Inverter
from pipeline.errors import ConfigError
from pipeline.faces import alignment, images
from pipeline.inverter.photo import opened

ASTRONAUT = files("pipeline.portraits") / "astronaut.jpg"
DATA = ASTRONAUT.read_bytes()
PIXELS = images.decode(DATA)


@pytest.fixture(scope="module")
def inverter():
    return Inverter("demo", device="cpu", steps=2)


@pytest.fixture(scope="module")
def face(inverter):
    [face] = inverter.invert(ASTRONAUT)
    return face


@pytest.fixture(scope="module")
def tiny(tiny_inverter):
    return Inverter(tiny_inverter, "cpu", steps=2, align="none", metrics="mse,psnr")


def test_what_is_found_is_what_the_model_answers(face):
    model = load_inverter("demo")
    crop = alignment.crop(PIXELS, face.quad, model.input_size[0], 256)
    assert np.abs(np.asarray(face.aligned).astype(int) - crop).max() <= 1
    target = torch.from_numpy(np.array(face.aligned)).permute(2, 0, 1)[None] / 127.5 - 1
    result = model.invert(target, n_steps=2, keep_images=True)
    torch.testing.assert_close(face.latents_by_step, result.latents[:, 0], atol=1e-5, rtol=0)
    torch.testing.assert_close(face.latent, face.latents_by_step[-1])
    mse = [distances.mse(step.clamp(-1, 1), target).item() for step in result.thumbnails]
    np.testing.assert_allclose(face.metrics["mse"], mse, atol=1e-5)
    assert set(face.metrics) == {"mse", "psnr", "ms_ssim", "identity"}
    assert face.metrics["identity"][0] is None
    assert face.metrics["identity"][1] > 0
    for picture, step in zip(face.images, result.images, strict=True):
        assert np.abs(np.asarray(picture).astype(int) - images.to_u8(step[0])).max() <= 1
    assert face.best_step == int(np.argmin(mse)) + 1
    assert face.landmarks.shape == (68, 2)


@pytest.mark.parametrize("kind", ["str", "Path", "bytes", "PIL", "array", "url", "file"])
def test_a_photo_comes_in_any_form(inverter, face, kind):
    given = {
        "str": str(ASTRONAUT),
        "Path": Path(str(ASTRONAUT)),
        "bytes": bytearray(DATA),
        "PIL": Image.open(io.BytesIO(DATA)),
        "array": PIXELS,
        "url": f"file://{ASTRONAUT}",
        "file": io.BytesIO(DATA),
    }[kind]
    [found] = inverter.invert(given)
    torch.testing.assert_close(found.latents_by_step, face.latents_by_step)
    np.testing.assert_array_equal(found.quad, face.quad)
    assert found.metrics == face.metrics


def test_a_pil_image_is_upright_and_in_srgb_as_its_file(tmp_path):
    """Turned by its EXIF, transparent: what the file's reader does, whoever opened it."""
    turned = Image.fromarray(PIXELS[:64, :40])
    exif = turned.getexif()
    exif[274] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    clear = Image.fromarray(PIXELS[:8, :8]).convert("RGBA")
    clear.putalpha(100)
    clear.save(tmp_path / "clear.png")
    for name in ("turned", "clear"):
        path = tmp_path / f"{name}.png"
        with Image.open(path) as picture:
            np.testing.assert_array_equal(opened(picture).decoded(), opened(path).decoded())
    assert opened(tmp_path / "turned.png").decoded().shape == (40, 64, 3)


def test_an_array_is_the_callers_to_change():
    array = PIXELS[:8, :8].copy()
    photo = opened(array)
    array[:] = 0
    np.testing.assert_array_equal(photo.decoded(), PIXELS[:8, :8])


def test_all_faces_largest_first(inverter, face):
    small = np.asarray(Image.fromarray(PIXELS).resize((256, 256)))
    beside = np.concatenate([np.pad(small, ((0, 256), (0, 0), (0, 0)), "edge"), PIXELS], axis=1)
    found = inverter.invert(beside)
    assert [each.number for each in found] == [0, 1]
    widths = [np.hypot(*(each.quad[3] - each.quad[0])) for each in found]
    assert widths[0] > 1.5 * widths[1]
    assert "face 2 of 2" in repr(found[1])
    largest = Inverter(steps=2, faces="largest", metrics=())
    [only] = largest.invert(beside)
    np.testing.assert_allclose(only.quad, found[0].quad, atol=8)
    assert only.metrics == {}


def test_several_photos_are_inverted_in_batches(tiny, photo):
    given = [photo(i) for i in range(11)]
    found = tiny.invert(given)
    assert [len(faces) for faces in found] == [1] * 11
    for data, faces in zip(given[::5], found[::5], strict=True):
        [alone] = tiny.invert(data)
        torch.testing.assert_close(
            faces[0].latents_by_step, alone.latents_by_step, atol=1e-4, rtol=0
        )
    assert found[2][0].photo.name == "photo 3"
    assert tiny.invert([]) == []
    assert len(tiny.invert(iter(given[:2]))) == 2


BAD = {
    "missing": ("nowhere/photo.jpg", "there is no file at nowhere/photo.jpg"),
    "folder": (".", "is a folder; pass the photos in it"),
    "empty": (b"", "is not a photo that can be read: the file is empty"),
    "text": (b"hello, I am no image", "not an image in a supported format"),
    "cut": (DATA[:2000], "its JPEG data is truncated or wrong; pass another file"),
    "nobody": (np.full((300, 300, 3), 90, np.uint8), r"no face was found.*align=\"none\""),
    "floats": (np.zeros((3, 64, 64), np.float32), r"must be \[H, W, 3\] of uint8"),
    "tensor": (torch.zeros(3, 64, 64), "is of type Tensor; pass a path"),
    "text file": (io.StringIO("hello"), "open it with mode 'rb'"),
    "number": (7, "is of type int; pass a path"),
    "url": ("file:///nowhere/photo.jpg", "cannot read the photo"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_inverted_says_why_and_what_to_do(inverter, name):
    given, expected = BAD[name]
    with pytest.raises(ConfigError, match=expected):
        inverter.invert(given)
    with pytest.warns(RuntimeWarning, match=expected):
        found = inverter.invert([ASTRONAUT, given], on_error="skip")
    assert [len(faces) for faces in found] == [1, 0]


def test_a_model_whose_answer_is_not_finite(tiny_inverter, photo):
    broken = Inverter(tiny_inverter, "cpu", align="none", steps=1)
    with torch.no_grad():
        next(iter(broken.model.encoder.parameters())).fill_(torch.nan)
    with pytest.raises(ConfigError, match=r"photo 1 cannot be inverted: .* NaN"):
        broken.invert([photo()])
    with pytest.warns(RuntimeWarning, match="NaN"):
        assert broken.invert([photo()], on_error="skip") == [[]]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"steps": 0}, "^'steps' must be 1 to 1000, not 0"),
        ({"steps": "five"}, "^'steps' must be a whole number or 'auto', not 'five'"),
        ({"refine": "most"}, "^'refine' must be a whole number, 'fast' or 'best'"),
        ({"align": "faces"}, "^'align' must be 'face' or 'none', not 'faces'"),
        ({"stepz": 3}, "^there is no setting 'stepz'; did you mean 'steps'"),
        ({"save_images": True}, "^there is no setting 'save_images'"),
        ({"bound": "two"}, "^'bound' must be a number"),
        ({"device": "toaster"}, "^'device' must be 'cpu', 'cuda'"),
        ({"device": "cuda:99"}, "^there is no cuda:99: this machine has"),
        ({"device": "cpu", "precision": "tf32"}, "^tf32 rounds products"),
        ({"batch_size": 0}, "^'batch_size' must be"),
        ({"metrics": "mse,beauty"}, "^unknown metric 'beauty'"),
        ({"refine_near": 0.1}, 'add refine="fast"'),
        ({"metrics": "lpips"}, "^this metric needs 'lpips_weights'"),
    ],
)
def test_settings_are_checked_and_named_as_keywords(settings, expected):
    with pytest.raises(ConfigError, match=expected) as caught:
        Inverter(**settings)
    assert "--" not in str(caught.value)


def test_a_checkpoint_that_is_not_there():
    with pytest.raises(CheckpointError, match=r"nowhere\.pt"):
        Inverter("nowhere.pt")


def test_an_edit_is_the_latent_along_the_direction(inverter, face):
    smile = directions.load(directions.demo_path("smile"), *face.latent.shape)
    edit = face.edit("demo:smile", 2.0)
    torch.testing.assert_close(edit.latent, face.latent + 2 * smile)
    drawn = load_inverter("demo").generator.synthesis(edit.latent[None])[0]
    assert np.abs(np.asarray(edit.image).astype(int) - images.to_u8(drawn)).max() <= 1
    both = edit.edit(smile.numpy(), -1)
    torch.testing.assert_close(both.latent, face.latent + smile)
    assert repr(both) == "Edit(astronaut.jpg, smile +2, direction -1)"
    assert face.edit("sefa:0@0-3", 1).latent[4:].equal(face.latent[4:])


def test_tuned_to_its_photo_a_face_is_closer_and_edited_as_before(face):
    def error(picture):
        crop = np.asarray(face.aligned).astype(int)
        return np.square(np.asarray(picture).astype(int) - crop).mean()

    before = np.asarray(face.image)
    tuned = face.tune(10)
    assert error(tuned.image) < 0.6 * error(face.image)
    assert np.array_equal(np.asarray(face.image), before)
    assert torch.equal(tuned.latent, face.latent)
    assert tuned.steps[-1] == "step 2, tuned"
    edit, untuned = tuned.edit("demo:smile", 2.0), face.edit("demo:smile", 2.0)
    assert torch.equal(edit.latent, untuned.latent)
    assert error(edit.image) < 0.8 * error(untuned.image)
    with pytest.raises(ConfigError, match="'n_steps' must be a whole number above 0, not 0"):
        face.tune(0)


@pytest.mark.parametrize(
    ("direction", "strength", "expected"),
    [
        ("demo:wings", 1, "there is no direction demo:wings; there are demo:"),
        ("nowhere.pt", 1, "no direction at nowhere.pt"),
        ("smile@", 1, "smile@"),
        (torch.zeros(3), 1, r"a direction of this generator is \[\d+, \d+\] or \[\d+\]"),
        (3, 1, "a direction is a name such as 'demo:smile'"),
        ("demo:smile", float("nan"), "a strength of nan"),
    ],
)
def test_a_direction_that_cannot_be_used(face, direction, strength, expected):
    with pytest.raises((ConfigError, CheckpointError), match=expected):
        face.edit(direction, strength)


def test_pasted_back_only_the_face_changes(face):
    pasted = np.asarray(face.edit("demo:glasses", 3).paste_back())
    changed = (pasted != PIXELS).any(axis=-1)
    left, top = np.floor(face.quad.min(axis=0)).astype(int)
    right, bottom = np.ceil(face.quad.max(axis=0)).astype(int)
    assert changed[top:bottom, left:right].mean() > 0.2
    changed[max(top, 0) : bottom + 1, left : right + 1] = False
    assert not changed.any()
    with pytest.raises(ConfigError, match="'feather' must be 0 to 0.5"):
        face.paste_back(feather=3)


def test_pasted_back_by_difference_a_photo_keeps_what_the_inversion_lost(face):
    """Whatever was edited before: with all edits taken back, the photo is there to the pixel."""
    edit = face.edit("demo:smile", 3)
    replaced, added, back = (
        np.asarray(picture).astype(int)
        for picture in (
            edit.paste_back(mode="replace"),
            edit.paste_back(mode="difference"),
            edit.edit("demo:smile", -3).paste_back(),
        )
    )
    assert np.abs(back - PIXELS).max() <= 1
    assert 0 < np.abs(added - PIXELS).mean() < 0.2 * np.abs(replaced - PIXELS).mean()
    wide = np.asarray(edit.paste_back(mask="square")).astype(int)
    assert (wide != PIXELS).sum() > (added != PIXELS).sum()
    assert np.array_equal(
        np.asarray(face.paste_back(0.1)), np.asarray(face.paste_back(0.1, "replace"))
    )
    with pytest.raises(ConfigError, match='edit it, or pass mode="replace"'):
        face.paste_back(mode="difference")
    with pytest.raises(ConfigError, match="'mode' must be 'auto' or 'difference' or 'replace'"):
        edit.paste_back(mode="blend")
    with pytest.raises(ConfigError, match="'feather' must be 0 to 0.5, not 'difference'"):
        edit.paste_back("difference")


def test_without_alignment_there_is_no_place_to_paste(tiny, photo):
    [found] = tiny.invert(photo())
    assert found.quad is None
    with pytest.raises(ConfigError, match='pass align="face"'):
        found.paste_back()
    edit = found.edit("sefa:0", 2)
    before, after = (
        np.asarray(picture).astype(int).mean() for picture in (found.image, edit.image)
    )
    pasted = np.asarray(edit.paste_back()).astype(int)
    change = pasted.mean() - images.decode(photo()).mean()
    assert change == pytest.approx(after - before, abs=3)  # of values that are clipped


def test_what_a_notebook_shows_is_short_and_safe(inverter, face):
    assert repr(inverter).startswith("Inverter('demo', cpu, fp32, steps=2")
    assert repr(face).startswith("Face(astronaut.jpg, mse 0.")
    strip = face.strip(cell=32)
    assert strip.width < 32 * 3 + 50
    assert face.edit("demo:yaw", 1).edit("demo:smile", 1).strip(cell=32).width > strip.width
    html = face._repr_html_()
    assert html.count("data:image/jpeg;base64,") == 1
    assert "<th>ms_ssim</th>" in html
    assert len(html) < 100_000
    [hostile] = inverter.invert([DATA])
    object.__setattr__(hostile[0].photo, "name", "<script>")
    assert "<script>" not in hostile._repr_html_() + hostile[0].edit("demo:yaw", 1)._repr_html_()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".npy", ".pt"])
def test_it_is_saved_as_its_name_says(face, tmp_path, suffix):
    path = face.save(tmp_path / "new" / f"face{suffix}")
    if suffix == ".npy":
        np.testing.assert_array_equal(np.load(path), face.latent.numpy())
    elif suffix == ".pt":
        torch.testing.assert_close(torch.load(path, weights_only=True), face.latent[None])
    else:
        with Image.open(path) as picture:
            assert picture.size == face.image.size


def test_what_cannot_be_saved(face, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"end its name in \.png, \.jpg"):
        face.save(tmp_path / "face")
    with pytest.raises(ConfigError, match="cannot write"):
        face.save(tmp_path / "file" / "face.png")


def test_refinement_is_a_step_of_its_own_and_auto_stops_early(tiny_inverter, photo):
    usual = {"device": "cpu", "align": "none", "metrics": "mse"}
    [refined] = Inverter(tiny_inverter, steps=2, refine=3, **usual).invert(photo())
    assert refined.steps == ["step 1", "step 2", "refined"]
    assert refined.metrics["mse"][2] < refined.metrics["mse"][1]
    [best] = Inverter(tiny_inverter, steps=3, latents="best", **usual).invert(photo())
    assert len(best.steps) == best.best_step == len(best.images)
    [auto] = Inverter(tiny_inverter, steps="auto", max_steps=4, bound=2, **usual).invert(photo())
    assert 1 <= len(auto.steps) <= 4


def test_nothing_is_said_when_all_is_well(inverter):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        inverter.invert([ASTRONAUT, DATA])
