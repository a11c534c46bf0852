"""Samples -> batches: failures are skipped and counted, order and values do not depend on the pool."""

import io
from contextlib import closing
from itertools import islice

import numpy as np
import pytest
import torch
from image_files import grey_png

from pipeline.errors import ConfigError
from pipeline.faces.prepare import AlignSettings
from pipeline.training.batches import Batches, first_images
from pipeline.training.stream import SampleStream, StreamConfig

SETTINGS = AlignSettings("none", "largest", 16, 16)


def npy(values):
    data = io.BytesIO()
    np.save(data, np.asarray(values))
    return data.getvalue()


@pytest.fixture
def shard(tmp_path, write_tar):
    members = []
    for i in range(12):
        image = b"broken" if i == 5 else grey_png(10 * i)
        members += [(f"{i:02}.png", image), (f"{i:02}.npy", npy([i, -i]))]
    return write_tar(tmp_path / "a.tar", members)


def stream(url, **options):
    return SampleStream(StreamConfig((url,), **options))


def test_images_belong_to_their_keys_and_vectors(shard):
    source = stream(shard, fields=frozenset({"npy"}))
    with closing(Batches(source, 4, SETTINGS, z_dim=2)) as batches:
        for batch in islice(batches, 6):
            assert batch.images.shape == (4, 3, 16, 16)
            assert batch.images.dtype == torch.float32
            for key, image, z in zip(batch.keys, batch.images, batch.z, strict=True):
                number = int(key)
                assert image.unique().tolist() == pytest.approx([number / 12.75 - 1], abs=1e-6)
                assert z.tolist() == [number, -number]


def test_a_broken_image_is_skipped_and_counted(shard):
    with closing(Batches(stream(shard), 11, SETTINGS)) as batches:
        first, second = islice(batches, 2)
    assert sorted(first.keys) == [f"{i:02}" for i in range(12) if i != 5]
    assert second.n_failed > first.n_failed or first.n_failed == 1


def test_batches_go_on_behind_any_batch(shard):
    with closing(Batches(stream(shard), 3, SETTINGS)) as batches:
        whole = list(islice(batches, 8))
    for n in range(7):
        again = SampleStream(StreamConfig((shard,)), whole[n].position)
        with closing(Batches(again, 3, SETTINGS)) as batches:
            rest = list(islice(batches, 7 - n))
        assert [b.keys for b in rest] == [b.keys for b in whole[n + 1 :]]
        assert all(
            torch.equal(a.images, b.images) for a, b in zip(rest, whole[n + 1 :], strict=True)
        )


@pytest.mark.slow
def test_faces_are_aligned_as_they_come(tmp_path, write_tar):
    from pipeline import portraits
    from pipeline.faces.images import encode_png, to_u8

    photos = portraits.render(portraits.sample(2, 5), 256, "photo")
    members = [(f"{i}.png", encode_png(to_u8(p))) for i, p in enumerate(photos)]
    url = write_tar(tmp_path / "photos.tar", members)
    settings = AlignSettings("face", "largest", 64, 64)
    with closing(Batches(stream(url), 2, settings)) as batches:
        batch = next(iter(batches))
    crops = portraits.render(portraits.sample(2, 5), 64, "aligned")
    for key, image in zip(batch.keys, batch.images, strict=True):
        own, other = (
            ((image - crop) ** 2).mean() for crop in (crops[int(key)], crops[1 - int(key)])
        )
        assert own < other


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (None, "no .npy member"),
        (b"\x93NUMPYx", "damaged"),
        (b"", "damaged"),
        (npy([1, 2, 3]), "holds 3 numbers, but the mapping takes 2"),
    ],
)
def test_a_missing_or_damaged_vector_is_said(tmp_path, write_tar, member, message):
    members = [("a.png", grey_png(1))] + ([("a.npy", member)] if member is not None else [])
    url = write_tar(tmp_path / "a.tar", members)
    source = stream(url, fields=frozenset({"npy"}))
    with (
        closing(Batches(source, 1, SETTINGS, z_dim=2)) as batches,
        pytest.raises(ConfigError, match=message),
    ):
        next(iter(batches))


def test_a_pickle_in_a_vector_is_refused(tmp_path, write_tar):
    data = io.BytesIO()
    np.save(data, np.array([{}], dtype=object), allow_pickle=True)
    url = write_tar(tmp_path / "a.tar", [("a.png", grey_png(1)), ("a.npy", data.getvalue())])
    source = stream(url, fields=frozenset({"npy"}))
    with (
        closing(Batches(source, 1, SETTINGS, z_dim=2)) as batches,
        pytest.raises(ConfigError, match="damaged"),
    ):
        next(iter(batches))


def test_images_to_validate_on_come_in_stored_order(shard):
    images, z, _ = first_images(stream(shard, fields=frozenset({"npy"})), 7, SETTINGS, z_dim=2)
    assert images.shape == (7, 3, 16, 16)
    assert z[:, 0].tolist() == [0, 1, 2, 3, 4, 6, 7]  # the broken one is left out
    images, z, _ = first_images(stream(shard), 100, SETTINGS)
    assert len(images) == 11
    assert z is None
