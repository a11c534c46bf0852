"""Damaged tars and pictures, and what must hold of each; used by the suite and by benchmarks/fuzz.py."""

import bz2
import gzip
import io
import lzma
import tarfile
from pathlib import Path

import icc_profiles
import numpy as np
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin, features

from pipeline.errors import ShardError
from pipeline.faces import heic, images
from pipeline.faces.prepare import AlignSettings, align_sample
from pipeline.records import Sample, Status
from pipeline.shards import reader
from pipeline.shards.members import key_and_extension

COMPRESSIONS = {"plain": bytes, "gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}
FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
SETTINGS = AlignSettings("none", "largest", 32, 32)

letters = st.characters(exclude_categories=["Cs"], exclude_characters="\0/")
stems = st.text(letters, min_size=1, max_size=6).filter(lambda s: s.strip("._"))
names = st.builds(
    lambda folder, stem, extension: f"{folder}k{stem}{extension}",
    st.sampled_from(["", "a/", "\u00fc n/", "a.b/", "./", "../"]),
    st.one_of(stems, st.sampled_from("aab")),
    st.sampled_from(["", ".jpg", ".PNG", ".json", ".seg.png", ".txt", ".tar", "."]),
)
members = st.lists(st.tuples(names, st.binary(max_size=1500)), max_size=8)
places = st.floats(0, 1, exclude_max=True)
mutation = st.one_of(
    st.tuples(st.just("flip"), places, st.integers(1, 255)),
    st.tuples(st.just("cut"), places, st.none()),
    st.tuples(st.just("insert"), places, st.binary(min_size=1, max_size=600)),
    st.tuples(st.just("drop"), places, st.integers(1, 1200)),
    st.tuples(st.just("repeat"), places, st.integers(1, 1200)),
    st.tuples(st.just("zero"), places, st.integers(1, 1200)),
)
tars = st.fixed_dictionaries(
    {
        "members": members,
        "format": st.sampled_from(list(FORMATS)),
        "compression": st.sampled_from(list(COMPRESSIONS)),
        "mutations": st.lists(mutation, max_size=3),
    }
)


def damaged(data, mutations):
    """The bytes after each mutation in turn."""
    for kind, place, how in mutations:
        at = int(place * len(data))
        if kind == "flip":
            data = data[:at] + bytes([data[at] ^ how]) + data[at + 1 :] if data else data
        elif kind == "cut":
            data = data[:at]
        elif kind == "insert":
            data = data[:at] + how + data[at:]
        elif kind == "drop":
            data = data[:at] + data[at + how :]
        elif kind == "repeat":
            data = data[: at + how] + data[at:]
        else:
            data = data[:at] + bytes(len(data[at : at + how])) + data[at + how :]
    return data


def _tar(contents, form):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for name, data in contents:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def check_tar(case, path):
    """Read a damaged shard: every member once, or one sentence. Returns "whole", "refused" or "other"."""
    # Each member's bytes are its own, so that a lost or a repeated one shows.
    contents = [(name, b"%d:" % i + data) for i, (name, data) in enumerate(case["members"])]
    whole = COMPRESSIONS[case["compression"]](_tar(contents, FORMATS[case["format"]]))
    data = damaged(whole, case["mutations"])
    Path(path).write_bytes(data)
    fields = frozenset(key_and_extension(name)[1] for name, _ in contents)
    config_error = ""
    try:
        samples = list(reader.samples(str(path), fields))
    except ShardError as error:
        config_error = str(error)
    if config_error:
        assert data != whole
        assert "\n" not in config_error
        assert Path(path).name in config_error
        return "refused"
    assert [sample.index for sample in samples] == list(range(len(samples)))
    for sample in samples:
        sample.key.encode()  # Parquet takes it
        assert (sample.image is None) == (sample.status != Status.OK) == (sample.error is not None)
    found = sorted(data for sample in samples for data in sample.fields.values())
    is_same = found == sorted(data for _, data in contents)
    if data == whole or case["compression"] != "plain":
        # What is compressed has a checksum: damage is refused, or it lies in what does not matter.
        assert is_same or len(case["mutations"]) > 1
    elif [kind for kind, *_ in case["mutations"]] == ["cut"]:
        assert is_same
    elif [kind for kind, *_ in case["mutations"]] == ["flip"] and case["format"] == "ustar":
        assert len(found) == len(contents)  # a header has a checksum, an image has none
    return "whole" if is_same else "other"


def _saved(picture, form, **options):
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def _pictures():
    y, x = np.mgrid[0:24, 0:32]
    rgb = Image.fromarray(np.stack([x * 7, y * 9, 200 - x], axis=-1).astype(np.uint8))
    for form in images.FORMATS:
        if {"AVIF": features.check("avif"), "JPEG2000": features.check("jpg_2000")}.get(form, 1):
            yield form, _saved(rgb, form)
    yield "progressive JPEG", _saved(rgb, "JPEG", progressive=True)
    yield "CMYK JPEG", _saved(rgb.convert("CMYK"), "JPEG")
    yield "16-bit PNG", _saved(Image.fromarray((x * 2000 + y).astype(np.uint16)), "PNG")
    yield "palette PNG", _saved(rgb.convert("P"), "PNG", transparency=3)
    yield "interlaced GIF", _saved(rgb.convert("P"), "GIF", interlace=1)
    yield "animated WEBP", _saved(rgb, "WEBP", save_all=True, append_images=[rgb.rotate(90)])
    yield "multi-page TIFF", _saved(rgb, "TIFF", save_all=True, append_images=[rgb])
    for compression in ("tiff_lzw", "tiff_deflate", "jpeg", "packbits"):
        yield f"{compression} TIFF", _saved(rgb, "TIFF", compression=compression)
    yield "head of a HEIC", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)
    if heic.reader() is not None:
        yield "HEIC", _saved(rgb, "HEIF")
    yield "JPEG without its end", _saved(rgb, "JPEG", progressive=True)[:-2]
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "0" * 1_500_000, zip=True)
    yield "PNG with a large text", _saved(rgb, "PNG", pnginfo=text)
    yield "Display P3", _saved(rgb, "PNG", icc_profile=icc_profiles.screen(icc_profiles.DISPLAY_P3))
    yield "SVG", b'<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>'
    yield "nothing", b""
    yield "noise", bytes(range(256))


PICTURES = dict(_pictures())
pictures = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(list(PICTURES)),
        "mutations": st.lists(
            # Headers, where damage does most, lie in front.
            st.one_of(mutation, st.tuples(st.just("flip"), st.floats(0, 0.1), st.integers(1, 255))),
            max_size=4,
        ),
    }
)


def check_picture(case):
    """Decode a damaged picture: one row, ok or with one sentence. Returns its status."""
    data = damaged(PICTURES[case["kind"]], case["mutations"])
    [row] = align_sample(Sample(7, "key", data), SETTINGS)
    assert (row.index, row.key) == (7, "key")
    assert row.status in (Status.OK, Status.DECODE_ERROR)
    if row.status == Status.OK:
        assert row.image_u8.shape == (32, 32, 3)
        assert row.image_u8.dtype == np.uint8
        assert row.error is None
    else:
        assert row.image_u8 is None
        assert 0 < len(row.error) < 200
        assert "\n" not in row.error
        assert "0x" not in row.error
    return str(row.status)
