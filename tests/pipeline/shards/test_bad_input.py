"""Everything that lies in folders of real photos: each a row with a sentence, or a row with a face."""

import io
import itertools
import resource
import tarfile

import numpy as np
import pyarrow.parquet as pq
import pytest
from image_files import png_of_size, saved
from PIL import Image

from pipeline.config import RunConfig
from pipeline.errors import ShardError
from pipeline.faces.prepare import AlignSettings, align_sample
from pipeline.latents import schema
from pipeline.latents.schema import Row
from pipeline.latents.writer import ShardWriter
from pipeline.records import AlignedFace, Status
from pipeline.shards import reader

N_MANY = 100_000


def rows(url, mode="none"):
    settings = AlignSettings(mode, "largest", 32, 32)
    return [row for sample in reader.samples(url) for row in align_sample(sample, settings)]


def bad_members(photo):
    """(name, bytes, status, words of the error)."""
    rgb = Image.open(io.BytesIO(photo())).convert("RGB")
    deep = Image.fromarray(np.asarray(rgb.convert("L")).astype(np.uint16) * 257)
    film = saved(rgb, "GIF", save_all=True, append_images=[rgb.rotate(90)])
    return [
        ("zero.jpg", b"", Status.DECODE_ERROR, "empty"),
        ("cut.png", photo()[:200], Status.DECODE_ERROR, "truncated"),
        ("noise.jpg", bytes(range(256)), Status.DECODE_ERROR, "not an image"),
        ("bomb.png", png_of_size(20_000, 20_000), Status.DECODE_ERROR, "20000 x 20000 pixels"),
        ("huge.png", png_of_size(2**31 - 1, 2**31 - 1), Status.DECODE_ERROR, "megapixels"),
        ("photo.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", Status.DECODE_ERROR, "HEIC"),
        ("drawing.svg", b"<svg xmlns='x'/>", Status.DECODE_ERROR, "SVG"),
        ("page.jpg", b"<html>404 not found</html>", Status.DECODE_ERROR, "not an image"),
        ("text.txt", b"no image", Status.MISSING_IMAGE, "no image among its members"),
        ("inner.tar", b"a tar in a tar", Status.MISSING_IMAGE, "no image among its members"),
        ("two.jpg", photo(), Status.AMBIGUOUS_IMAGE, "2 images"),
        ("two.png", photo(), None, None),  # the same sample
        ("dot.png", saved(Image.new("RGB", (1, 1)), "PNG"), Status.OK, None),
        ("line.png", saved(Image.new("RGB", (3000, 1)), "PNG"), Status.OK, None),
        ("film.gif", film, Status.OK, None),
        ("print.jpg", saved(rgb.convert("CMYK"), "JPEG"), Status.OK, None),
        ("deep.png", saved(deep, "PNG"), Status.OK, None),
        ("wrong name.png", saved(rgb, "JPEG"), Status.OK, None),
        ("a.b.c/\u00e4 \u5199\u771f!.JPEG", photo(), Status.OK, None),
        ("./../x/y.png", photo(), Status.OK, None),
        ("/root.png", photo(), Status.OK, None),
        ("double.png", photo(), Status.OK, None),
        ("double.png", photo(1), Status.OK, None),
    ]


@pytest.mark.parametrize("mode", ["none", "face"])
def test_every_bad_picture_is_a_row(tmp_path, write_tar, photo, mode):
    members = bad_members(photo)
    path = write_tar(tmp_path / "s.tar", [(name, data) for name, data, _, _ in members])
    expected = [(status, words) for _, _, status, words in members if status]
    found = rows(path, mode)
    assert [row.index for row in found] == list(range(len(expected)))
    for row, (status, words) in zip(found, expected, strict=True):
        if mode == "face" and status == Status.OK:
            status, words = Status.NO_FACE, "no face"  # blobs, none of them with a face
        assert row.status == status, row
        assert (row.error is None) == (words is None)
        assert words is None or words in row.error
        assert row.error is None or "\n" not in row.error


@pytest.mark.parametrize("n", [0, 1])
def test_shards_in_shards(tmp_path, write_tar, photo, n):
    """A tar of tars holds no image; a gzip that is called .tar is read as what it is."""
    inner = write_tar(tmp_path / "inner.tar", [("a.png", photo())] * n)
    with open(inner, "rb") as file:
        outer = write_tar(tmp_path / "outer.tar", [("a.tar", file.read())])
    assert [row.status for row in rows(outer)] == [Status.MISSING_IMAGE]
    zipped = write_tar(tmp_path / "z.tar", [("a.png", photo())] * n, mode="w:gz")
    assert [row.status for row in rows(zipped)] == [Status.OK] * n


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not a whole tar"),
        (b"\0" * 100, "not a whole tar"),
        (b"PK\3\4" + bytes(2000), "not a whole tar"),
        (b"<html>" * 500, "not a whole tar"),
        (b"\x1f\x8b\x08\0" + bytes(600), "cannot be read|not a whole tar"),
    ],
)
def test_what_is_no_tar_is_one_sentence(tmp_path, data, says):
    (tmp_path / "s.tar").write_bytes(data)
    with pytest.raises(ShardError, match=says) as error:
        rows(str(tmp_path / "s.tar"))
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_a_shard_of_many_samples_takes_no_more_memory(tmp_path):
    path = tmp_path / "many.tar"
    headers = (tarfile.TarInfo(f"{i:06}.jpg").tobuf(tarfile.USTAR_FORMAT) for i in range(N_MANY))
    path.write_bytes(b"".join(headers) + bytes(tarfile.RECORDSIZE))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    columns = schema.schema(RunConfig(align="none", metrics=()), 2, 8)
    writer = ShardWriter(str(tmp_path), "many.parquet", "many.tar", columns)
    samples = reader.samples(str(path))
    while batch := list(itertools.islice(samples, 64)):
        faces = [AlignedFace(s.index, s.key, Status.DECODE_ERROR, "empty") for s in batch]
        writer.add([Row(face, face.status, face.error) for face in faces])
    writer.commit({"n_samples": writer.n_rows})
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB
    table = pq.read_table(tmp_path / "many.parquet", columns=["key", "sample_index"])
    assert table["sample_index"].to_numpy().tolist() == list(range(N_MANY))
    assert table["key"][N_MANY - 1].as_py() == f"{N_MANY - 1:06}"
