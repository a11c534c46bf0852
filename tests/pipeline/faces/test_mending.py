"""Whole pixels under broken metadata decode; pixels that are not whole never do."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from image_files import saved
from PIL import Image, PngImagePlugin, TiffImagePlugin

from pipeline.faces import images, mending
from pipeline.faces.images import ImageError, decode

PORTRAIT = Path(__file__).parents[2] / "data" / "alignment" / "portrait.png"
MEGABYTES = zlib.compress(b"0" * 1_500_000)


@pytest.fixture(scope="module")
def portrait():
    return Image.open(PORTRAIT).convert("RGB").crop((150, 100, 391, 297))


@pytest.fixture
def png(portrait):
    """A PNG with the chunks given before its pixels, or in another place."""

    def make(*chunks, place=33, **options):
        data = saved(portrait, "PNG", **options)
        return data[:place] + b"".join(chunks) + data[place:]

    return make


def chunk(kind, body, is_sound=True):
    checksum = zlib.crc32(kind + body) ^ (0 if is_sound else 1)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)


def turned(orientation=6):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes().removeprefix(b"Exif\0\0")


def fails(data):
    with pytest.raises(ImageError) as caught:
        decode(data)
    return str(caught.value)


LARGE = {
    "zTXt": chunk(b"zTXt", b"Raw profile type APP1\0\0" + MEGABYTES),
    "iTXt": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + MEGABYTES),
    "iCCP": chunk(b"iCCP", b"profile\0\0" + MEGABYTES),
    "many tEXt": chunk(b"tEXt", b"Comment\0" + b"0" * 9_000_000) * 8,
    "many zTXt": chunk(b"zTXt", b"exif\0\0" + zlib.compress(b"0" * 1_000_000)) * 70,
}


@pytest.mark.parametrize("name", LARGE)
def test_large_metadata_of_a_png_is_left_out(name, png, portrait):
    np.testing.assert_array_equal(decode(png(LARGE[name])), np.asarray(portrait))
    np.testing.assert_array_equal(decode(memoryview(png(LARGE[name]))), np.asarray(portrait))
    behind = len(png()) - 12
    np.testing.assert_array_equal(decode(png(LARGE[name], place=behind)), np.asarray(portrait))


@pytest.mark.filterwarnings("ignore:Invalid APNG")
@pytest.mark.parametrize("kind", ["tEXt", "iTXt", "pHYs", "gAMA", "sRGB", "iCCP", "eXIf", "acTL"])
def test_metadata_with_a_wrong_checksum_is_left_out(kind, png, portrait):
    broken = chunk(kind.encode(), b"\0" * 40, is_sound=False)
    np.testing.assert_array_equal(decode(png(broken)), np.asarray(portrait))


def test_a_sound_orientation_and_profile_stay(png, portrait):
    profile = chunk(b"iCCP", b"p\0\0" + zlib.compress(b"small"))
    data = png(LARGE["zTXt"], chunk(b"eXIf", turned()), profile, chunk(b"eXIf", b"?", False))
    assert decode(data).shape == (*portrait.size, 3)
    whole = mending.mended("PNG", data, images.MAX_PIXELS)
    assert profile in whole
    assert LARGE["zTXt"] not in whole
    xmp = b'<x xmlns:tiff="x"><tiff:Orientation>6</tiff:Orientation></x>'
    for text in (xmp, zlib.compress(xmp)):
        packed = b"\1" if text != xmp else b"\0"
        note = chunk(b"iTXt", b"XML:com.adobe.xmp\0" + packed + b"\0\0\0" + text)
        assert decode(png(note, LARGE["iCCP"])).shape == (*portrait.size, 3)


def test_pixels_with_a_wrong_checksum_are_not_mended(png, portrait):
    palette = saved(portrait.convert("P"), "PNG", transparency=3)
    for kind, data in [(b"IHDR", png()), (b"PLTE", palette), (b"tRNS", palette), (b"IDAT", png())]:
        start = data.index(kind)
        (length,) = struct.unpack(">I", data[start - 4 : start])
        place = start + 4 + length  # of its checksum
        damaged = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        assert mending.mended("PNG", damaged, images.MAX_PIXELS) is None, kind
        behind_header = damaged[:33] + LARGE["zTXt"] + damaged[33:]
        assert fails(behind_header).startswith("the file is damaged: its PNG data")
        renamed = data[:start] + kind.swapcase() + data[start + 4 :]
        assert mending.mended("PNG", renamed, images.MAX_PIXELS) is None, kind


def test_a_png_without_its_end(png, portrait):
    for data in (png()[:-12], png()[:-5], png(LARGE["iCCP"])[:-12]):
        np.testing.assert_array_equal(decode(data), np.asarray(portrait))
    note = chunk(b"tEXt", b"Comment\0" + b"0" * 5000)
    cut = png(note, place=len(png()) - 12)[:-100]  # within the note behind the pixels
    np.testing.assert_array_equal(decode(cut), np.asarray(portrait))


def test_a_png_whose_pixels_end_early_stays_an_error(png, portrait):
    rows = np.pad(np.asarray(portrait).reshape(portrait.height, -1), ((0, 0), (1, 0)))
    stream = zlib.compress(rows.tobytes())
    head = saved(portrait, "PNG")[:33]
    end = chunk(b"IEND", b"")

    def of(*streams):
        return head + b"".join(chunk(b"IDAT", part) for part in streams)

    half = len(stream) // 2
    np.testing.assert_array_equal(decode(of(stream[:half], stream[half:]) + end), portrait)
    early = zlib.compress(rows[: portrait.height // 2].tobytes())
    for data in (of(stream[:half]), of(stream)[:-300], of(stream[:half], b"")):
        for whole in (data, data + end, data[:33] + LARGE["zTXt"] + data[33:]):
            assert fails(whole).startswith("the file is damaged")
    for rest in (b"", end):
        assert fails(head + LARGE["zTXt"] + of(early)[33:] + rest).startswith("the file is damaged")


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "I;16"])
def test_every_kind_of_png_is_mended(mode, portrait):
    picture = portrait.convert("I").convert(mode) if mode == "I;16" else portrait.convert(mode)
    data = saved(picture, "PNG")
    np.testing.assert_array_equal(decode(data[:33] + LARGE["zTXt"] + data[33:]), decode(data))


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (5, 9), (8, 8), (17, 23)])
def test_an_interlaced_png_is_mended(size):
    """Pillow writes none; its pixels are those of seven small pictures, one behind the other."""
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    passes = [
        *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
        *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
    ]
    rows = b""
    for left, top, right, down in passes:
        part = pixels[top::down, left::right]
        rows += b"".join(b"\0" + row.tobytes() for row in part if row.size)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 1))
    data = b"\x89PNG\r\n\x1a\n" + header + LARGE["zTXt"] + chunk(b"IDAT", zlib.compress(rows))
    np.testing.assert_array_equal(decode(data), pixels)


JPEGS = {
    "baseline": {},
    "4:4:4": {"subsampling": 0},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 5},
    "rough": {"quality": 20, "optimize": True},
}
MODES = ["RGB", "L", "CMYK"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("options", JPEGS.values(), ids=JPEGS)
def test_a_jpeg_without_its_end_marker_has_all_its_pixels(mode, options, portrait):
    data = saved(portrait.convert(mode), "JPEG", **options)
    for cut in (data[:-1], data[:-2]):
        np.testing.assert_array_equal(decode(cut), decode(data))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("options", JPEGS.values(), ids=JPEGS)
def test_a_jpeg_that_is_cut_anywhere_else_stays_an_error(mode, options, portrait):
    data = saved(portrait.convert(mode), "JPEG", **options)
    places = {*range(3, 40), *range(40, len(data), len(data) // 60)}
    for n_lost in sorted(places):
        cut = data[:-n_lost]
        assert fails(cut).startswith(("the file is damaged", "not an image", "the file is empty"))


def test_a_progressive_jpeg_without_its_last_scans_is_not_whole(portrait):
    """Cut between two scans nothing is missing of the data that are there, and decoders say nothing."""
    data = saved(portrait, "JPEG", progressive=True)
    scans = [i for i in range(len(data)) if data[i : i + 2] == b"\xff\xda"]
    tables = [i for i in range(len(data)) if data[i : i + 2] == b"\xff\xc4"]
    cuts = [place for place in [*scans, *tables] if place > scans[0]]
    assert len(cuts) > 8
    for place in cuts:
        assert fails(data[:place]).startswith("the file is damaged")


def test_a_jpeg_of_one_scan_for_each_colour(portrait):
    """Some encoders write them; without its last scan such a picture would lack a colour."""
    planes = [np.asarray(plane) for plane in portrait.convert("YCbCr").split()]
    parts = [saved(Image.fromarray(plane), "JPEG", quality=90) for plane in planes]
    frame = parts[0].index(b"\xff\xc0")
    size = parts[0][frame + 5 : frame + 9]
    header = struct.pack(">BHB4sB", 0xC0, 17, 8, size, 3)
    header += b"".join(bytes([i, 0x11, 0]) for i in (1, 2, 3))
    scans = []
    for i, part in enumerate(parts, 1):
        start = part.index(b"\xff\xda")
        scans.append(part[start : start + 5] + bytes([i]) + part[start + 6 : -2])
    tables = parts[0][frame + 13 : parts[0].index(b"\xff\xda")]
    data = parts[0][:frame] + b"\xff" + header + tables + b"".join(scans)
    assert np.abs(decode(data + b"\xff\xd9").astype(int) - np.asarray(portrait)).mean() < 4
    np.testing.assert_array_equal(decode(data), decode(data + b"\xff\xd9"))
    for n in (1, 2):
        assert fails(data[: -sum(map(len, scans[n:]))]).startswith("the file is damaged")


def test_a_picture_over_the_limit_is_not_looked_at(portrait):
    data = saved(portrait, "JPEG")[:-2]
    assert mending.mended("JPEG", data, portrait.width * portrait.height) is not None
    assert mending.mended("JPEG", data, portrait.width * portrait.height - 1) is None
    assert mending.mended("PNG", saved(portrait, "PNG"), 100) is None
    assert mending.mended("GIF", saved(portrait, "GIF"), 10**9) is None


def test_pillows_own_limits_and_switches_stay(png, monkeypatch):
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_CHUNK", 1000)
    decode(png(chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"0" * 2000))))
    assert PngImagePlugin.MAX_TEXT_CHUNK == 1000
    assert not PngImagePlugin.ImageFile.LOAD_TRUNCATED_IMAGES


def float_tiff():
    """32-bit floats in three colours, which Pillow can neither write nor read."""
    values = np.linspace(0, 1, 8 * 6 * 3, dtype="<f4").tobytes()
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in [(256, 8), (257, 6), (258, (32, 32, 32)), (259, 1), (262, 2), (277, 3)]:
        tags[tag] = value
    tags[278], tags[279], tags[339] = 6, len(values), (3, 3, 3)
    tags[273] = 0  # Pillow adds where the tags end
    return b"II*\0\x08\0\0\0" + tags.tobytes(8) + values


def test_a_whole_file_of_an_unsupported_kind_is_told_from_a_damaged_one(portrait):
    whole = float_tiff()
    sentence = "the file seems whole, but this kind of picture is not supported: "
    assert fails(whole) == (
        sentence + "a TIFF of 3 x 32-bit floating-point samples; convert it to PNG"
    )
    assert fails(memoryview(whole)) == fails(whole)
    assert fails(whole[:-100]) == "the file is damaged: its TIFF data is truncated or wrong"
    jpeg = saved(portrait, "JPEG")
    place = jpeg.index(b"\xff\xc0") + 4
    deep = jpeg[:place] + b"\x0c" + jpeg[place + 1 :]
    assert fails(deep) == sentence + "a JPEG of 12 bits per colour; convert it to PNG"
    assert fails(deep[:-50]) == "the file is damaged: its JPEG data is truncated or wrong"
    assert "colours in LAB; convert" in fails(saved(Image.new("LAB", (8, 8)), "TIFF"))
    apple = saved(portrait, "PNG")
    apple = apple[:8] + chunk(b"CgBI", b"\x50\0\x20\2") + apple[8:]
    apple = apple.replace(apple[apple.index(b"IDAT") :], b"IDAT" + bytes(40))
    assert "Apple" in fails(apple)
    bmp = bytearray(saved(portrait, "BMP"))
    bmp[30] = 5  # compressed as PNG
    assert fails(bytes(bmp)) == sentence + "a BMP of an uncommon form; convert it to PNG"
    assert fails(bytes(bmp[:-9])).startswith("the file is damaged")


@pytest.mark.filterwarnings("ignore")
def test_any_end_of_a_float_tiff_is_told(portrait):
    whole = float_tiff()
    for end in range(4, len(whole)):
        assert "convert" not in fails(whole[:end])
