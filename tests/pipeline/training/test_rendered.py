"""Portraits drawn while training are those that shards hold, and train to the same weights."""

from itertools import islice

import pytest
import torch

from pipeline.errors import ConfigError
from pipeline.faces.prepare import AlignSettings
from pipeline.portraits import N_PARAMETERS, shards
from pipeline.training import rendered
from pipeline.training.batches import Batches, first_images
from pipeline.training.config import RenderConfig
from pipeline.training.rendered import RenderedBatches, RenderedStream
from pipeline.training.stream import Position, SampleStream, StreamConfig

SIZE, FIELDS, BEGIN = 16, frozenset({"npy"}), Position()


@pytest.fixture
def written(tmp_path, monkeypatch):
    """12 portraits of seed 3 in three shards, and a config that draws the same ones."""
    monkeypatch.setattr(rendered, "PER_SHARD", 5)
    paths = []
    for i, n in enumerate((5, 5, 2)):
        paths.append(tmp_path / f"{i}.tar")
        shards._write_shard(paths[-1], n, SIZE, "aligned", 3 * shards.SEED_STRIDE + i)
    return [str(path) for path in paths], RenderConfig(True, 12, portraits_seed=3, held_out_seed=4)


def _of_shards(urls, begin=BEGIN):
    stream = SampleStream(StreamConfig(tuple(urls), seed=1, chunk=4, fields=FIELDS), begin)
    return Batches(stream, 4, AlignSettings("none", "largest", SIZE, SIZE), N_PARAMETERS)


def _drawn(config, begin=BEGIN):
    stream = RenderedStream(
        StreamConfig(rendered.shards(config), seed=1, chunk=4, fields=FIELDS), begin
    )
    return RenderedBatches(stream, 4, SIZE, N_PARAMETERS, torch.device("cpu"))


def test_drawn_batches_are_those_of_shards(written):
    urls, config = written
    for read, drawn in islice(zip(_of_shards(urls), _drawn(config), strict=False), 5):
        assert torch.equal(read.z, drawn.z)
        assert (read.images - drawn.images).abs().max() <= 1.01 / 127.5  # a level of 8 bits
        assert read.position == drawn.position


def test_drawn_batches_go_on_at_a_position(written):
    config = written[1]
    first = list(islice(_drawn(config), 5))
    for before, again in zip(first[3:], _drawn(config, first[2].position), strict=False):
        assert torch.equal(before.images, again.images)
        assert before.keys == again.keys


def test_held_out_portraits_are_those_of_a_shard(tmp_path):
    path = tmp_path / "held_out.tar"
    shards._write_shard(path, 6, SIZE, "aligned", 4 * shards.SEED_STRIDE)
    stream = SampleStream(StreamConfig((str(path),), fields=FIELDS))
    settings = AlignSettings("none", "largest", SIZE, SIZE)
    images, z, _ = first_images(stream, 4, settings, N_PARAMETERS)
    config, cpu = RenderConfig(held_out_seed=4), torch.device("cpu")
    drawn, drawn_from = rendered.held_out(config, 4, SIZE, N_PARAMETERS, cpu)
    assert torch.equal(z, drawn_from)
    assert (images - drawn).abs().max() <= 1.01 / 127.5


def test_a_mapping_of_other_vectors_is_refused():
    with pytest.raises(ConfigError, match="pass --z-dim 76"):
        rendered.held_out(RenderConfig(), 4, SIZE, 40, torch.device("cpu"))


def test_portraits_to_validate_on_are_not_trained_on():
    with pytest.raises(ConfigError, match="must differ"):
        RenderConfig(portraits_seed=5, held_out_seed=5)
