"""Detection, landmarks, chips and identity on the NASA portrait and pictures made from it."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import dlib
import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.config import RunConfig
from pipeline.faces import alignment, detection
from pipeline.inversion.scoring import Scorer

DATA = Path(__file__).parents[2] / "data" / "alignment"
CASES = json.loads((DATA / "landmarks.json").read_text())
GREY = (150, 150, 150)


@pytest.fixture(scope="module")
def portrait():
    return Image.open(DATA / "portrait.png").convert("RGB")


@pytest.fixture(scope="module")
def photos(portrait):
    large = portrait.crop((60, 0, 400, 340)).resize((2040, 2040), Image.Resampling.BICUBIC)
    pictures = {"portrait": portrait, "edge": portrait.crop((150, 20, 330, 260)), "large": large}
    return {name: np.array(picture) for name, picture in pictures.items()}


@pytest.fixture(scope="module")
def aligned():
    return np.array(Image.open(DATA / "portrait_aligned_1024to256.png"))


@pytest.fixture(scope="module")
def identity():
    """Of two aligned crops, as a run measures it."""
    scorer = Scorer(RunConfig(metrics=("identity",)))

    def measure(first, second):
        chips = np.stack([detection.chip_aligned(first), detection.chip_aligned(second)])
        return scorer.identities(torch.from_numpy(chips[None])).item()

    return measure


def overlap(a, b):
    """Intersection over union of two boxes."""
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return width * height / (areas - width * height)


def resized(image_u8, size):
    return np.array(Image.fromarray(image_u8).resize((size, size), Image.Resampling.LANCZOS))


@pytest.mark.parametrize("name", ["portrait", "edge", "large"])
def test_the_face_and_nothing_else(photos, name):
    found = detection.detect(photos[name])
    assert len(found) == 1  # on "portrait", the space suit is no face
    (face,) = found
    assert overlap(face.box, CASES[name]["box"]) > 0.7
    assert face.score > 1
    assert face.landmarks.shape == (68, 2)
    assert face.landmarks.dtype == np.float32
    published = np.array(CASES[name]["landmarks"], float)
    eyes = np.linalg.norm(published[36:42].mean(0) - published[42:48].mean(0))
    assert np.linalg.norm(face.landmarks - published, axis=1).mean() < 0.05 * eyes


def test_the_suit_is_no_face_at_any_scale_or_size(portrait):
    assert len(detection.detect(np.array(portrait), every_scale=True)) == 1
    for size in (300, 640, 1024, 1400):
        (face,) = detection.detect(np.array(portrait.resize((size, size))))
        assert overlap(np.array(face.box) * 512 / size, CASES["portrait"]["box"]) > 0.6


def test_several_faces_are_sorted_by_size(portrait):
    head = portrait.crop((130, 0, 330, 200))
    group = Image.new("RGB", (1200, 520), GREY)
    for size, place in ((280, (10, 10)), (480, (310, 10)), (380, (810, 10))):
        group.paste(head.resize((size, size), Image.Resampling.BICUBIC), place)
    found = detection.detect(np.array(group))
    centres = [(face.box[0] + face.box[2]) / 2 for face in found]
    assert len(found) == 3
    assert 310 < centres[0] < 790
    assert centres[1] > 810
    assert centres[2] < 290
    assert [face.area for face in found] == sorted((face.area for face in found), reverse=True)


def test_equal_faces_have_a_fixed_order(portrait):
    head = portrait.crop((130, 0, 330, 200))
    pair = Image.new("RGB", (400, 200))
    pair.paste(head, (0, 0))
    pair.paste(head, (200, 0))
    first, second = (detection.detect(np.array(pair)) for _ in range(2))
    assert [face.box for face in first] == [face.box for face in second]
    assert len(first) == 2


def test_small_faces_in_large_pictures_are_found(portrait):
    head = portrait.crop((130, 0, 330, 200)).resize((250, 250), Image.Resampling.BICUBIC)
    scene = Image.new("RGB", (2400, 1500), GREY)
    scene.paste(head, (1900, 1100))
    (face,) = detection.detect(np.array(scene))
    assert face.box[0] > 1900
    assert face.box[1] > 1100


def test_small_pictures_are_enlarged(portrait):
    small = portrait.crop((130, 0, 330, 200)).resize((110, 110), Image.Resampling.LANCZOS)
    (face,) = detection.detect(np.array(small))
    assert np.all(face.landmarks > 0)
    assert np.all(face.landmarks < 110)


def test_every_scale_finds_the_small_face_beside_the_large(portrait):
    head = portrait.crop((130, 0, 330, 200))
    scene = Image.new("RGB", (1300, 700), GREY)
    scene.paste(head.resize((600, 600), Image.Resampling.BICUBIC), (20, 20))
    scene.paste(head, (900, 200))
    assert len(detection.detect(np.array(scene))) == 1
    found = detection.detect(np.array(scene), every_scale=True)
    assert [face.box[0] > 800 for face in found] == [False, True]


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (40, 30), (700, 900)])
def test_no_face(shape):
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert detection.detect(noise) == []
    assert detection.detect(np.zeros_like(noise)) == []


def test_other_arrays_are_refused():
    for wrong in (np.zeros((40, 40), np.uint8), np.zeros((40, 40, 3), np.float32)):
        with pytest.raises(ValueError, match="uint8"):
            detection.detect(wrong)
        with pytest.raises(ValueError, match="uint8"):
            detection.chip_aligned(wrong)


@pytest.mark.parametrize("side", [512, 256, 64])
def test_chips_are_the_pixels_that_dlib_describes(aligned, describe_by_dlib, side):
    picture = resized(aligned, side)
    chip = detection.chip_aligned(picture)
    assert (chip.shape, chip.dtype) == ((150, 150, 3), np.uint8)
    network = dlib.face_recognition_model_v1(detection.recogniser_path())
    of_chip = np.array(network.compute_face_descriptor(chip), np.float32)
    np.testing.assert_array_equal(of_chip, describe_by_dlib(picture))


def test_identity_of_itself_smaller_and_another(aligned, photos, identity):
    assert identity(aligned, aligned) == pytest.approx(1, abs=1e-6)
    assert identity(aligned, resized(aligned, 128)) > 0.8
    assert identity(aligned, resized(aligned, 64)) > 0.6
    found = detection.detect(photos["large"])[0]
    again = alignment.crop(photos["large"], alignment.quad(found.landmarks), 512, 512)
    assert identity(aligned, again) > 0.8
    drawn = np.array(Image.open(DATA / "drawn_aligned.png"))
    assert identity(aligned, drawn) < 0.4


def test_a_face_is_seen_or_not(aligned):
    noise = np.random.default_rng(0).integers(0, 256, aligned.shape, dtype=np.uint8)
    blank = np.zeros((64, 64, 3), np.uint8), np.full((256, 256, 3), 255, np.uint8)
    seen = [aligned, resized(aligned, 64), np.ascontiguousarray(aligned[:, ::-1])]
    assert [detection.shows_face(picture) for picture in (*seen, noise, *blank)] == [True] * 3 + [
        False
    ] * 3


def test_threads_get_the_same_faces(photos):
    expected = detection.detect(photos["portrait"])[0].box
    boxes = []

    def work():
        boxes.extend(detection.detect(photos["portrait"])[0].box for _ in range(4))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert boxes == [expected] * 12


def test_imports_stay_light():
    """No torch, no ray; and no dlib for decoding and geometry."""
    code = (
        "import sys; from pipeline.faces import alignment, images; assert 'dlib' not in sys.modules; "
        "from pipeline.faces import detection; assert not {'torch', 'ray', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
