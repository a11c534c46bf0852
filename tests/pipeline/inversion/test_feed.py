"""One sample's rows, whatever is wrong with it; results in order and bounded."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.faces import detection, images
from pipeline.faces.prepare import AlignSettings, align_sample
from pipeline.inversion import feed
from pipeline.records import Sample, Status

PORTRAIT = Path(__file__).parents[2] / "data" / "alignment" / "portrait.png"
FACE = AlignSettings("face", "largest", 64, 64)


def png(picture):
    data = io.BytesIO()
    Image.fromarray(picture).save(data, "png")
    return data.getvalue()


def test_a_photo_becomes_its_aligned_face():
    [row] = align_sample(Sample(7, "key", PORTRAIT.read_bytes()), FACE)
    assert (row.index, row.key, row.status, row.error) == (7, "key", Status.OK, None)
    assert (row.face, row.n_faces, row.width, row.height) == (0, 1, 512, 512)
    assert row.image_u8.shape == (64, 64, 3)
    assert row.landmarks.shape == (68, 2)
    assert row.quad.shape == (4, 2)
    assert row.detection_score > 0.5


def test_all_faces_become_rows_largest_first():
    portrait = Image.open(PORTRAIT).convert("RGB")
    group = Image.new("RGB", (1100, 512), "white")
    group.paste(portrait.resize((400, 400)), (10, 50))
    group.paste(portrait, (560, 0))
    sample = Sample(0, "group", png(np.asarray(group)))
    rows = align_sample(sample, AlignSettings("face", "all", 64, 64))
    assert [row.face for row in rows] == [0, 1]
    assert {row.n_faces for row in rows} == {2}
    assert rows[0].quad[:, 0].mean() > 560 > rows[1].quad[:, 0].mean()
    [largest] = align_sample(sample, FACE)
    np.testing.assert_array_equal(largest.image_u8, rows[0].image_u8)


@pytest.mark.parametrize(
    ("image", "status"),
    [
        (b"", Status.DECODE_ERROR),
        (b"no image", Status.DECODE_ERROR),
        (PORTRAIT.read_bytes()[:9000], Status.DECODE_ERROR),
        (png(np.full((200, 300, 3), 90, np.uint8)), Status.NO_FACE),
        (png(np.zeros((1, 1, 3), np.uint8)), Status.NO_FACE),
    ],
)
def test_a_failure_is_one_row_with_an_error(image, status):
    [row] = align_sample(Sample(3, "k", image), FACE)
    assert (row.index, row.key, row.status) == (3, "k", status)
    assert row.error
    assert row.image_u8 is None


def test_what_the_reader_found_wrong_is_passed_on():
    sample = Sample(1, "k", None, Status.MISSING_IMAGE, "no image among its members (.txt)")
    [row] = align_sample(sample, FACE)
    assert (row.status, row.error) == (sample.status, sample.error)


def test_align_none_resizes_to_the_encoders_input():
    settings = AlignSettings("none", "largest", 48, 64)
    picture = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    [row] = align_sample(Sample(0, "k", png(picture)), settings)
    assert row.image_u8.shape == (48, 64, 3)
    assert (row.face, row.n_faces, row.quad) == (-1, -1, None)
    same = picture[:48, :64]
    [row] = align_sample(Sample(0, "k", png(same)), settings)
    np.testing.assert_array_equal(row.image_u8, same)


def test_chips_come_with_the_faces_where_identity_is_wanted():
    sample = Sample(0, "k", PORTRAIT.read_bytes())
    [with_chip] = align_sample(sample, replace(FACE, chips=True))
    [without] = align_sample(sample, FACE)
    assert without.chip_u8 is None
    np.testing.assert_array_equal(with_chip.image_u8, without.image_u8)
    np.testing.assert_array_equal(with_chip.chip_u8, detection.chip_aligned(with_chip.image_u8))
    [as_it_is] = align_sample(sample, AlignSettings("none", "largest", 64, 48, chips=True))
    np.testing.assert_array_equal(as_it_is.chip_u8, detection.chip_aligned(as_it_is.image_u8))


def test_chips_of_reconstructions_and_one_that_cannot_be_cut():
    [face] = align_sample(Sample(0, "k", PORTRAIT.read_bytes()), FACE)
    picture = face.image_u8
    noise = np.random.default_rng(0).integers(0, 256, picture.shape, dtype=np.uint8)
    white = np.full_like(picture, 255)
    items = [[picture, noise, white], [picture, picture[:, :, 0]], []]
    [first, failed, none], _ = feed._chips_all(items)
    assert none == []
    np.testing.assert_array_equal(first[0], detection.chip_aligned(picture))
    assert first[1:] == [None, None]  # no face is seen there
    assert failed.error.startswith("identity failed: ValueError: image must be [H, W, 3] uint8")


def test_what_a_library_did_not_foresee_is_a_row(monkeypatch):
    def raises(_):
        raise RuntimeError("Unsupported image type")

    monkeypatch.setattr(images, "decode_own_colours", raises)
    samples = [Sample(0, "k", b"x"), Sample(1, "k", None, Status.MISSING_IMAGE, "none")]
    ([failed], [passed_on]), _ = feed._prepare_all(samples, FACE)
    assert (failed.index, failed.status) == (0, Status.CRASHED)
    assert failed.error == "alignment failed: RuntimeError: Unsupported image type"
    assert passed_on.status == Status.MISSING_IMAGE
