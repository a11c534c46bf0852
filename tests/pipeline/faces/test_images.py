"""Decoding: every mode and orientation comes out as upright RGB, everything else as ImageError."""

import random
import re
import struct
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import png_of_size, saved
from PIL import Image, features

from pipeline.faces import images
from pipeline.faces.images import FORMATS, ImageError, decode, encode_jpeg, encode_png

HEIGHT, WIDTH = 40, 56


def scene():
    """A smooth picture with different corners, [HEIGHT, WIDTH, 3]."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([x * 4, y * 5, 200 - x * 2 - y], axis=-1).astype(np.uint8)


def picture(mode="RGB"):
    return Image.fromarray(scene()).convert(mode)


def grey():
    return np.asarray(picture("L"))


def difference(a, b):
    return np.abs(a.astype(int) - b.astype(int)).mean()


def outcome(data):
    """ "picture" or the sentence that says why there is none; any other exception passes."""
    try:
        image_u8 = decode(data)
    except ImageError as error:
        return str(error)
    return "picture" if image_u8.ndim == 3 and image_u8.shape[2] == 3 else image_u8.shape


def available(name):
    return {"AVIF": features.check("avif"), "JPEG2000": features.check("jpg_2000")}.get(name, True)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format(name):
    if not available(name):
        pytest.skip(f"this Pillow has no {name}")
    image_u8 = decode(saved(picture(), name))
    assert image_u8.shape == (HEIGHT, WIDTH, 3)
    assert image_u8.dtype == np.uint8
    assert image_u8.flags.c_contiguous
    assert image_u8.flags.writeable
    assert difference(image_u8, scene()) < 6


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "RGBA"])
def test_ordinary_modes_as_png(mode):
    expected = np.array(picture(mode).convert("RGB"))
    np.testing.assert_array_equal(decode(saved(picture(mode), "PNG")), expected)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "RGBX", "LA", "1", "P"])
def test_ordinary_modes_as_tiff(mode):
    expected = np.array(picture(mode).convert("RGB"))
    assert difference(decode(saved(picture(mode), "TIFF")), expected) < 2


def test_cmyk_jpeg():
    data = saved(picture("CMYK"), "JPEG", quality=98, subsampling=0)
    assert difference(decode(data), scene()) < 2


def test_ycck_jpeg():
    """What Adobe programs write: the inks rotated to YCC, told by a flag. Pillow cannot write it,
    so the rotated planes are stored as plain CMYK and the flag is set afterwards."""
    inks = np.array(picture("CMYK"))
    ycc = np.asarray(Image.fromarray(np.ascontiguousarray(inks[..., :3])).convert("YCbCr"))
    planes = np.dstack([255 - ycc, inks[..., 3]])
    data = saved(Image.fromarray(planes, "CMYK"), "JPEG", quality=98, subsampling=0)
    flag = data.index(b"Adobe") + 11
    assert data[flag] == 0
    data = data[:flag] + b"\x02" + data[flag + 1 :]
    assert difference(decode(data), scene()) < 3


def deep_greys():
    deep = grey().astype(np.uint16) * 257
    yield "png 16", saved(Image.fromarray(deep), "PNG")
    yield "tiff 16", saved(Image.fromarray(deep), "TIFF")
    yield "pgm 16", b"P5 %d %d 65535\n" % (WIDTH, HEIGHT) + deep.astype(">u2").tobytes()
    yield "tiff 32, 16 used", saved(Image.fromarray(deep.astype(np.int32)), "TIFF")
    full = grey().astype(np.float64) / grey().max()
    yield "float 0..1", saved(Image.fromarray((grey() / 255).astype(np.float32)), "TIFF")
    yield "float 0..255", saved(Image.fromarray(grey().astype(np.float32)), "TIFF")
    yield "float 0..65535", saved(Image.fromarray(deep.astype(np.float32)), "TIFF")
    yield "tiff 32", saved(Image.fromarray((full * 2**31 - 1).astype(np.int32)), "TIFF")


@pytest.mark.parametrize(
    ("name", "data"), list(deep_greys()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_deep_greys_are_scaled(name, data):
    expected = grey().astype(float)
    if name == "tiff 32":
        expected *= 255 / grey().max()
    image_u8 = decode(data)
    assert np.ptp(image_u8, axis=2).max() == 0
    np.testing.assert_allclose(image_u8[..., 0], expected, atol=1)


def test_float_greys_without_a_number_are_black():
    values = np.array([[np.nan, -3, np.inf], [0, 0.5, 1]], np.float32)
    image_u8 = decode(saved(Image.fromarray(values), "TIFF"))
    assert image_u8[..., 0].tolist() == [[0, 0, 0], [0, 128, 255]]


def test_transparency_is_composited_over_white():
    opaque, clear = (200, 0, 100, 255), (200, 0, 100, 0)
    rgba = Image.new("RGBA", (4, 2), clear)
    rgba.paste(opaque, (0, 0, 2, 2))
    rgba.putpixel((3, 0), (0, 0, 0, 128))
    for fmt in ("PNG", "TIFF"):
        image_u8 = decode(saved(rgba, fmt))
        assert image_u8[0, 0].tolist() == [200, 0, 100]
        assert image_u8[1, 3].tolist() == [255, 255, 255]
        assert abs(int(image_u8[0, 3, 0]) - 127) <= 1


@pytest.mark.parametrize("mode", ["P", "L", "RGB", "LA", "La"])
def test_other_transparency(mode):
    """A transparent palette entry, grey or colour (a tRNS chunk), and grey with alpha."""
    if mode in ("LA", "La"):
        two = Image.new("LA", (2, 1), (90, 0))
        two.putpixel((0, 0), (90, 255))
        data = saved(two, "PNG") if mode == "LA" else saved(two.convert("RGBA"), "WEBP", lossless=1)
        kept = [90, 90, 90]
    else:
        kept = {"P": [10, 20, 30], "L": [90, 90, 90], "RGB": [1, 2, 3]}[mode]
        two = Image.new(mode, (2, 1))
        if mode == "P":
            two.putpalette([*kept, 70, 80, 90])
        two.putpixel((0, 0), {"P": 0, "L": 90, "RGB": (1, 2, 3)}[mode])
        two.putpixel((1, 0), {"P": 1, "L": 7, "RGB": (7, 7, 7)}[mode])
        data = saved(two, "PNG", transparency={"P": 1, "L": 7, "RGB": (7, 7, 7)}[mode])
    assert decode(data)[0].tolist() == [kept, [255, 255, 255]]


def upside(orientation):
    """What a camera that stores this orientation has in the file, so that `scene()` is upright."""
    turns = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }
    return Image.fromarray(np.ascontiguousarray(turns[orientation](scene())))


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(name, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image_u8 = decode(saved(upside(orientation), name, exif=exif))
    assert image_u8.shape == (HEIGHT, WIDTH, 3)
    assert difference(image_u8, scene()) < 6


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0MM\0*\xff\xff", b"Exif\0\0", b"Exif\0\0II*\0\x08\0\0\0"]
)
def test_broken_exif_is_no_obstacle(exif):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert decode(saved(picture(), "JPEG", exif=exif)).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("name", ["GIF", "PNG", "WEBP", "TIFF"])
def test_first_frame_of_an_animation(name):
    second = Image.new("RGB", (WIDTH, HEIGHT), "red")
    data = saved(picture(), name, save_all=True, append_images=[second])
    assert difference(decode(data), scene()) < 6


@pytest.mark.parametrize("size", [(20_000, 20_000), (150_001, 1000), (2**31 - 1, 2**31 - 1)])
def test_bombs_are_refused_before_decoding(size, monkeypatch):
    with pytest.raises(ImageError, match=rf"{size[0]} x {size[1]} pixels.*150 megapixels"):
        decode(png_of_size(*size))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # Pillow's own guard off: ours stays
    with pytest.raises(ImageError, match="150 megapixels"):
        decode(png_of_size(*size))
    header = b"P6 %d %d 255\n" % size
    with pytest.raises(ImageError, match="150 megapixels"):
        decode(header)
    bitmap = saved(picture(), "GIF")
    bomb = bitmap[:6] + struct.pack("<HH", 65535, 65535) + bitmap[10:]
    with pytest.raises(ImageError, match="150 megapixels"):
        decode(bomb)


def test_large_photos_ignore_pillows_own_limit(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(saved(picture(), "PNG")).shape == (HEIGHT, WIDTH, 3)
    assert Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"just a text file\n", "not an image"),
        (b"\0" * 5000, "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "not an image"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2", "not an image"),
        (b'<svg xmlns="http://www.w3.org/2000/svg">', "SVG"),
        (b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- drawn -->\n<svg width="1">', "SVG"),
        (b"\x89PNG\r\n\x1a\n", "the file is damaged: its PNG data"),
        (b"\xff\xd8\xff\xe0", "the file is damaged: its JPEG data"),
        (saved(Image.new("LAB", (8, 8)), "TIFF"), "LAB"),
    ],
)
def test_what_is_no_picture(data, reason):
    texts = set()
    for _ in range(2):
        with pytest.raises(ImageError, match=reason) as caught:
            decode(data)
        texts.add(str(caught.value))
    (text,) = texts
    assert "0x" not in text
    assert "\n" not in text


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FORMATS)
def test_truncation_anywhere(name):
    if not available(name):
        pytest.skip(f"this Pillow has no {name}")
    data = saved(picture(), name)
    ends = {*range(0, min(len(data), 200), 5), *range(0, len(data), len(data) // 60 + 1)}
    outcomes = [outcome(data[:end]) for end in ends]
    assert outcomes.count("picture") < 0.2 * len(ends)


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    name=st.sampled_from([name for name in FORMATS if available(name)]),
    changes=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=8),
    tail=st.binary(max_size=40),
)
def test_damage_gives_a_picture_or_an_image_error(name, changes, tail):
    data = bytearray(saved(picture(), name) + tail)
    for place, value in changes:
        data[place % len(data)] = value
    assert re.fullmatch(r"picture|(?!.*0x)[\w (),;:.-]+", outcome(bytes(data)))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.binary(max_size=300))
def test_any_bytes(data):
    assert outcome(data)


def test_the_quick_decoder_gives_pillows_pixels(monkeypatch):
    """Plain JPEGs of every subsampling and odd size; turned, progressive and other ones go round it."""
    rough = np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    large = Image.fromarray(rough).resize((101, 77), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6
    files = [
        saved(
            large.crop((0, 0, *size)), "JPEG", quality=quality, subsampling=subsampling, **options
        )
        for size in [(1, 1), (9, 1), (16, 17), (63, 64), (101, 77)]
        for subsampling in ("4:4:4", "4:2:2", "4:2:0")
        for quality in (10, 95)
        for options in ({}, {"restart_marker_blocks": 2}, {"progressive": True}, {"exif": exif})
    ]
    files += [saved(large.convert(mode), "JPEG") for mode in ("L", "CMYK")]
    files.append(saved(large, "JPEG", keep_rgb=True, subsampling=0))
    expected = [without_the_quick_decoder(data, monkeypatch) for data in files]
    taken = count_quick_decodes(monkeypatch)
    for data, pixels in zip(files, expected, strict=True):
        ours = decode(data)
        np.testing.assert_array_equal(ours, pixels)
        assert ours.flags.c_contiguous
        assert ours.flags.writeable
    assert len(taken) == 5 * 3 * 2 * 2 + 1


def test_damage_is_told_as_pillow_tells_it(monkeypatch):
    source = random.Random(0)
    data = saved(picture().resize((24, 19)), "JPEG", quality=60)
    damaged = [data[:n] for n in range(0, len(data), 5)] + [data[:-1], data[:-2], data + data]
    for _ in range(300):
        changed = bytearray(data)
        changed[source.randrange(len(data))] = source.randrange(256)
        damaged.append(bytes(changed))
    for each in damaged:
        expected = without_the_quick_decoder(each, monkeypatch)
        assert same(expected, decoded(each))


def decoded(data):
    """Pixels or the sentence."""
    try:
        return decode(data)
    except ImageError as error:
        return str(error)


def without_the_quick_decoder(data, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(images, "simplejpeg", None)
        return decoded(data)


def count_quick_decodes(monkeypatch):
    """A list that gets an entry for each JPEG that is decoded the quick way."""
    taken = []
    quick = images.simplejpeg.decode_jpeg

    def counting(data, colours):
        pixels = quick(data, colours)
        taken.append(pixels.shape)
        return pixels

    monkeypatch.setattr(images.simplejpeg, "decode_jpeg", counting)
    return taken


def same(first, second):
    if isinstance(first, str) or isinstance(second, str):
        return isinstance(first, str) and isinstance(second, str) and first == second
    return np.array_equal(first, second)


def test_encoding_keeps_the_picture():
    np.testing.assert_array_equal(decode(encode_png(scene())), scene())
    assert difference(decode(encode_jpeg(scene())), scene()) < 2
    assert len(encode_jpeg(scene(), quality=30)) < len(encode_jpeg(scene()))
