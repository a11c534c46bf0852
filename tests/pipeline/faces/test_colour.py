"""Colours come out as sRGB, whatever profile a photo has; a profile of no use changes nothing."""

import io
import struct
import zlib
from pathlib import Path

import icc_profiles as icc
import numpy as np
import pytest
from image_files import saved
from PIL import Image, ImageCms, features

from pipeline.faces import colour, images
from pipeline.faces.images import decode, decode_own_colours
from pipeline.faces.prepare import AlignSettings, align_sample
from pipeline.records import Sample

PORTRAIT = Path(__file__).parents[2] / "data" / "alignment" / "portrait.png"
ASTRONAUT = Path(__file__).parents[3] / "pipeline" / "portraits" / "astronaut.jpg"
P3 = icc.screen(icc.DISPLAY_P3)
ADOBE = icc.screen(icc.ADOBE_RGB, icc.ADOBE_CURVE)
SRGB = icc.screen(icc.SRGB)
PROFILES = {"Display P3": P3, "Adobe RGB": ADOBE}


@pytest.fixture(scope="module")
def photo():
    return Image.open(PORTRAIT).convert("RGB")


def as_stored(photo, profile):
    """The pixels of a camera that writes this profile: the photo, which is sRGB, in its colours."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    target = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    return ImageCms.profileToProfile(photo, srgb, target, renderingIntent=1)


def difference(first, second):
    return np.abs(np.asarray(first).astype(int) - np.asarray(second).astype(int))


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("fmt", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
def test_a_photo_in_other_colours_looks_as_it_does_in_srgb(name, fmt, photo):
    if fmt == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    profile = PROFILES[name]
    stored = as_stored(photo, profile)
    assert difference(stored, photo).max() > 12
    options = {"lossless": True} if fmt == "WEBP" else {"quality": 98}
    data = saved(stored, fmt, icc_profile=profile, **options)
    pixels = decode(data)
    assert difference(pixels, photo).mean() < (0.6 if fmt in ("PNG", "TIFF", "WEBP") else 2)
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable
    own, kept = decode_own_colours(data)
    assert kept == profile
    np.testing.assert_array_equal(colour.to_srgb(own, kept), pixels)


@pytest.mark.parametrize(
    ("name", "mean", "largest"), [("Display P3", 3.3, 26), ("Adobe RGB", 4.5, 29)]
)
def test_what_ignoring_a_profile_would_cost(name, mean, largest):
    """The numbers of docs/photos.md."""
    photo = Image.open(ASTRONAUT).convert("RGB")
    stored = as_stored(photo, PROFILES[name])
    ignored = difference(stored, photo)
    assert ignored.mean() == pytest.approx(mean, abs=0.1)
    assert ignored.max() == pytest.approx(largest, abs=1)
    converted = difference(colour.to_srgb(np.asarray(stored), PROFILES[name]), photo)
    assert converted.mean() < 0.2
    assert converted.max() <= 2


def test_known_colours():
    """Numbers of the definitions: P3 primaries in sRGB, clipped, and one of a skin."""
    pixels = np.array(
        [[(255, 0, 0), (200, 150, 120), (255, 255, 255), (0, 0, 0), (128, 128, 128)]], np.uint8
    )
    [row] = colour.to_srgb(pixels, P3).tolist()
    expected = [(255, 0, 0), (209, 147, 115), (255, 255, 255), (0, 0, 0), (128, 128, 128)]
    assert difference(row, expected).max() <= 1
    [row] = colour.to_srgb(pixels, ADOBE).tolist()
    assert difference(row[:3], [(255, 0, 0), (217, 151, 119), (255, 255, 255)]).max() <= 1


def test_srgb_in_other_words_changes_nothing(photo):
    built_in = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (SRGB, built_in):
        pixels, kept = decode_own_colours(saved(photo, "PNG", icc_profile=profile))
        assert kept is None
        np.testing.assert_array_equal(pixels, np.asarray(photo))


def useless_profiles():
    yield "empty", b""
    yield "noise", bytes(range(256)) * 20
    yield "cut", P3[:200]
    yield "no tags", P3[:128] + bytes(4)
    yield "grey", icc.grey()
    yield "inks", icc.press(lambda *inks: (50, 0, 0))
    yield "too large", P3 + bytes(colour.MAX_PROFILE_BYTES)
    yield "wrong table", P3[:132] + bytes([255]) * 20 + P3[152:]
    yield "no curves", P3.replace(b"para", b"xxxx")


@pytest.mark.parametrize(("name", "profile"), list(useless_profiles()))
def test_a_profile_of_no_use_is_ignored(name, profile, photo):
    data = saved(photo, "TIFF", icc_profile=profile) if profile else saved(photo, "TIFF")
    pixels, kept = decode_own_colours(data)
    assert kept is None
    np.testing.assert_array_equal(pixels, np.asarray(photo))
    np.testing.assert_array_equal(colour.to_srgb(pixels, profile), pixels)


def test_damage_anywhere_in_a_profile_is_no_error(photo):
    small = photo.resize((24, 24))
    source = np.random.default_rng(0)
    for _ in range(150):
        profile = bytearray(P3)
        for place in source.integers(0, len(P3), 3):
            profile[place] = source.integers(256)
        assert decode(saved(small, "PNG", icc_profile=bytes(profile))).shape == (24, 24, 3)


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_greys_are_left(mode, photo):
    picture = photo.convert(mode)
    for profile in (icc.grey(), P3):
        expected = np.asarray(picture.convert("RGB"))
        np.testing.assert_array_equal(decode(saved(picture, "PNG", icc_profile=profile)), expected)


def test_transparency_is_still_white_and_palettes_are_converted():
    clear = Image.new("RGBA", (4, 4), (200, 150, 120, 255))
    clear.putpixel((0, 0), (10, 20, 30, 0))
    pixels = decode(saved(clear, "PNG", icc_profile=P3))
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert difference(pixels[1, 1], (209, 147, 115)).max() <= 1
    palette = clear.convert("RGB").quantize(4)
    assert (
        difference(decode(saved(palette, "PNG", icc_profile=P3))[1, 1], (209, 147, 115)).max() <= 1
    )


def srgb_of_lab(light, a, b):
    """By the definitions, without a library of colours."""
    y = (light + 16) / 116
    xyz = np.array([0.9642, 1, 0.8249]) * np.array([y + a / 500, y, y - b / 200]) ** 3
    linear = np.linalg.solve(np.array(icc.SRGB).T, xyz)
    return np.rint(255 * (1.055 * linear ** (1 / 2.4) - 0.055))


@pytest.mark.parametrize("fmt", ["JPEG", "TIFF"])
def test_inks_are_seen_as_their_profile_says(fmt):
    def lab(cyan, magenta, yellow, black):
        return (0, 0, 0) if black else (100 - 20 * (cyan + magenta + yellow), -30 * cyan, 0)

    profile = icc.press(lab)
    sheet = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    data = saved(sheet, fmt, icc_profile=profile, **({"quality": 98} if fmt == "JPEG" else {}))
    pixels, kept = decode_own_colours(data)
    assert kept is None
    assert difference(pixels[0, 0], srgb_of_lab(80, -30, 0)).max() <= 2
    without = decode(saved(sheet, fmt, **({"quality": 98} if fmt == "JPEG" else {})))
    assert difference(without[0, 0], (0, 255, 255)).max() <= 3
    useless = saved(sheet, fmt, icc_profile=P3, **({"quality": 98} if fmt == "JPEG" else {}))
    np.testing.assert_array_equal(decode(useless), without)


def test_strips_of_a_large_picture_are_as_the_whole(photo, monkeypatch):
    pixels = np.asarray(photo)
    whole = colour.to_srgb(pixels, P3)
    monkeypatch.setattr(colour, "_STRIP_PIXELS", photo.width * 7 + 3)
    np.testing.assert_array_equal(colour.to_srgb(pixels, P3), whole)


@pytest.mark.parametrize("mode", ["face", "none"])
def test_rows_hold_srgb(mode, photo):
    """Of a face only the crop is converted; it is what a crop of the converted photo is."""
    settings = AlignSettings(mode, "largest", 128, 128)
    [plain] = align_sample(Sample(0, "k", saved(photo, "PNG")), settings)
    stored = saved(as_stored(photo, ADOBE), "PNG", icc_profile=ADOBE)
    [row] = align_sample(Sample(0, "k", stored), settings)
    assert row.error is None
    if mode == "face":
        assert np.abs(row.quad - plain.quad).max() < 3  # the detector saw other colours
        crop = images.decode(stored)
        again = align_sample(Sample(0, "k", images.encode_png(crop)), settings)[0]
        assert difference(row.image_u8, again.image_u8).mean() < 6
        mean = row.image_u8.reshape(-1, 3).mean(axis=0)
        assert np.abs(mean - plain.image_u8.reshape(-1, 3).mean(axis=0)).max() < 2
    else:
        assert difference(row.image_u8, plain.image_u8).mean() < 0.6


def test_a_profile_of_a_png_that_had_to_be_mended(photo):
    stored = saved(as_stored(photo, P3), "PNG", icc_profile=P3)
    note = b"zTXt" + b"Comment\0\0" + zlib.compress(b"0" * 1_500_000)
    chunk = struct.pack(">I", len(note) - 4) + note + struct.pack(">I", zlib.crc32(note))
    assert difference(decode(stored[:33] + chunk + stored[33:]), photo).mean() < 0.6
