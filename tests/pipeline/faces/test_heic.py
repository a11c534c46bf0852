"""HEIC is read where its package is installed; elsewhere the error and `restyle pack` say how."""

import sys
import tarfile
from pathlib import Path

import icc_profiles as icc
import numpy as np
import pytest
from click.testing import CliRunner
from image_files import saved
from PIL import Image, features

from jobs.pack import pack as command
from pipeline.faces import heic, images, unsupported
from pipeline.faces.images import ImageError, decode
from pipeline.faces.prepare import AlignSettings, align_sample
from pipeline.records import IMAGE_EXTENSIONS
from pipeline.shards import reader

PORTRAIT = Path(__file__).parents[2] / "data" / "alignment" / "portrait.png"


@pytest.fixture(scope="module")
def photo():
    return Image.open(PORTRAIT).convert("RGB")


@pytest.fixture
def heic_of():
    pytest.importorskip("pillow_heif")
    heic.reader()
    return lambda picture, **options: saved(picture, "HEIF", quality=90, **options)


@pytest.fixture
def without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)


def test_a_heic_is_decoded(photo, heic_of):
    pixels = decode(heic_of(photo))
    assert pixels.shape == (512, 512, 3)
    assert np.abs(pixels.astype(int) - np.asarray(photo)).mean() < 3


def test_turned_and_in_the_colours_of_a_phone(photo, heic_of):
    exif = Image.Exif()
    exif[0x0112] = 6
    wide = photo.resize((300, 200))
    assert decode(heic_of(wide, exif=exif.tobytes())).shape == (300, 200, 3)
    p3 = icc.screen(icc.DISPLAY_P3)
    data = heic_of(Image.new("RGB", (64, 64), (200, 150, 120)), icc_profile=p3)
    assert np.abs(decode(data)[32, 32].astype(int) - (209, 147, 115)).max() <= 4


def test_a_cut_or_enormous_heic_is_an_error(photo, heic_of, monkeypatch):
    data = heic_of(photo)
    for end in (64, 300, len(data) // 2, len(data) - 1):
        with pytest.raises(ImageError, match="the file is damaged: its HEIC data"):
            decode(data[:end])
    monkeypatch.setattr(images, "MAX_PIXELS", 512 * 511)
    with pytest.raises(ImageError, match="512 x 512 pixels"):
        decode(data)


def test_without_the_package_the_error_says_what_to_install(photo, heic_of, request):
    data = heic_of(photo)
    request.getfixturevalue("without_the_package")
    with pytest.raises(ImageError, match=r"HEIC.*pip install 'restyle-batch\[heic\]'"):
        decode(data)


def test_avif_needs_no_package(photo):
    if not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    assert decode(saved(photo, "AVIF")).shape == (512, 512, 3)
    assert unsupported.way_to_read("avif") is None


def test_avif_without_its_decoder(photo, monkeypatch):
    if not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    data = saved(photo, "AVIF")
    monkeypatch.setattr(features, "check", lambda name: False)
    monkeypatch.setitem(Image.OPEN, "AVIF", (None, lambda head: "AVIF support not installed"))
    with pytest.raises(ImageError, match="AVIF.*pillow>=11.3"):
        decode(data)


def test_the_reader_and_pack_take_the_extensions():
    assert {"heic", "heif", "avif"} <= IMAGE_EXTENSIONS


@pytest.fixture
def phone(tmp_path, photo, heic_of):
    folder = tmp_path / "phone"
    folder.mkdir()
    for name in ("IMG_1.HEIC", "IMG_2.heic"):
        (folder / name).write_bytes(heic_of(photo.resize((256, 256))))
    (folder / "c.jpg").write_bytes(saved(photo, "JPEG"))
    return folder


def pack(folder, tmp_path):
    out = tmp_path / "shards" / "%06d.tar"
    result = CliRunner().invoke(command, [str(folder), str(out)])
    assert result.exit_code == 0, result.output
    return result.output, tmp_path / "shards" / "000000.tar"


def test_packed_photos_of_a_phone_become_rows(phone, tmp_path):
    said, shard = pack(phone, tmp_path)
    assert "will not be read" not in said
    with tarfile.open(shard) as tar:
        assert sorted(tar.getnames()) == ["IMG_1.heic", "IMG_2.heic", "c.jpg"]
    settings = AlignSettings("none", "largest", 64, 64)
    rows = [row for s in reader.samples(str(shard)) for row in align_sample(s, settings)]
    assert [row.error for row in rows] == [None] * 3


def test_pack_says_what_will_not_be_read(phone, tmp_path, without_the_package):
    (phone / "logo.svg").write_text("<svg/>")
    said, _ = pack(phone, tmp_path)
    assert "4 photos in 1 shard" in said
    assert (
        "2 .heic files will not be read with what is installed here: "
        "pip install 'restyle-batch[heic]' on every node, or convert them to JPEG"
    ) in said
    assert "1 .svg file will not be read" in said
