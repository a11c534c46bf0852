"""The stream of samples: each once an epoch, shared without overlap, and going on where it stopped."""

from collections import Counter
from dataclasses import replace
from itertools import islice

import pytest

from pipeline.errors import ConfigError
from pipeline.faces.prepare import AlignSettings
from pipeline.training.batches import first_images
from pipeline.training.config import LoopConfig
from pipeline.training.run import Shards, find_shards
from pipeline.training.stream import Position, SampleStream, StreamConfig


@pytest.fixture
def shards(tmp_path, write_tar, photo):
    def make(sizes):
        return tuple(
            write_tar(
                tmp_path / f"{s}.tar", [(f"{s}-{i}.png", photo(i, (8, 8))) for i in range(size)]
            )
            for s, size in enumerate(sizes)
        )

    return make


def keys(stream, n):
    return [sample.key for sample, _ in islice(stream, n)]


@pytest.mark.parametrize("chunk", [1, 3, 4, 100])
def test_every_sample_once_an_epoch(shards, chunk):
    config = StreamConfig(shards([5, 1, 0, 7]), chunk=chunk)
    seen = keys(SampleStream(config), 39)
    epochs = [seen[first : first + 13] for first in (0, 13, 26)]
    assert len(set(seen)) == 13
    assert all(Counter(epoch) == Counter(seen[:13]) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1  # in another order


def test_a_chunk_mixes_shards(shards):
    seen = keys(SampleStream(StreamConfig(shards([6, 6]), chunk=12)), 12)
    first = [key[0] for key in seen]
    assert first != sorted(first)
    assert first != sorted(first, reverse=True)


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_it_goes_on_from_any_place(shards, chunk):
    config = StreamConfig(shards([5, 1, 7]), chunk=chunk, seed=3)
    whole = list(islice(SampleStream(config), 30))
    for n, (_, position) in enumerate(whole[:20], 1):
        rest = [sample.key for sample, _ in islice(SampleStream(config, position), 30 - n)]
        assert rest == [sample.key for sample, _ in whole[n:]]


@pytest.mark.parametrize("sizes", [[4, 4, 4, 4], [9]])
@pytest.mark.parametrize("n_workers", [2, 3])
def test_workers_share_an_epoch(shards, sizes, n_workers):
    urls = shards(sizes)
    seen = Counter()
    for worker in range(n_workers):
        stream = SampleStream(StreamConfig(urls, worker=worker, n_workers=n_workers, chunk=3))
        for sample, position in stream:
            if position.epoch:
                break
            seen[sample.key] += 1
    assert sum(seen.values()) == len(seen) == sum(sizes)


def test_a_shard_that_breaks_off_gives_what_came_before(shards, tmp_path):
    urls = shards([4, 20])
    whole = (tmp_path / "1.tar").read_bytes()
    (tmp_path / "1.tar").write_bytes(whole[: len(whole) // 2])
    stream = SampleStream(StreamConfig(urls, chunk=100))
    first_epoch = [s.key for s, p in islice(stream, 60) if p.epoch == 0]
    assert {"0-0", "0-1", "0-2", "0-3"} < set(first_epoch)
    assert len(first_epoch) < 24
    assert list(stream.broken) == [urls[1]]
    assert "not a whole tar" in stream.broken[urls[1]]


def test_a_worker_whose_share_cannot_be_read_does_without_for_an_epoch(shards, tmp_path):
    urls = shards([6, 6])
    (tmp_path / "1.tar").write_text("no tar")
    for worker in range(2):
        stream = SampleStream(StreamConfig(urls, worker=worker, n_workers=2))
        seen = {sample.key for sample, _ in islice(stream, 12)}
        assert seen == {f"0-{i}" for i in range(6)}


def test_nothing_to_train_on_is_said(shards, tmp_path):
    with pytest.raises(ConfigError, match="no sample to train on"):
        next(iter(SampleStream(StreamConfig(shards([0, 0])))))
    (tmp_path / "text.tar").write_text("no tar")
    with pytest.raises(ConfigError, match="none of the 1 shards.*not a whole tar"):
        next(iter(SampleStream(StreamConfig((str(tmp_path / "text.tar"),)))))


def test_a_position_is_plain_data(shards):
    _, position = next(iter(SampleStream(StreamConfig(shards([3])))))
    assert Position(**vars(position)) == position


def test_a_share_of_the_samples_is_held_out_by_their_keys(shards):
    urls = shards([40, 20])
    everything = {f"{s}-{i}" for s, n in enumerate((40, 20)) for i in range(n)}
    own = StreamConfig(urls, chunk=7, held_out_share=0.25)
    others = set(keys(SampleStream(replace(own, held_out=True)), 200))
    n_own = len(everything) - len(others)
    seen = keys(SampleStream(own), 2 * n_own)
    assert 0 < len(others) < 30
    assert set(seen[:n_own]) == everything - others == set(seen[n_own:])
    # By the key alone: one shard fewer changes nothing, a larger share only adds.
    alone = replace(own, urls=urls[:1], held_out=True)
    assert set(keys(SampleStream(alone), 200)) == {key for key in others if key[0] == "0"}
    assert others < set(keys(SampleStream(replace(own, held_out=True, held_out_share=0.5)), 200))
    # Workers share what is left.
    parts = [SampleStream(replace(own, urls=urls[:1], worker=n, n_workers=2)) for n in range(2)]
    n_left = sum(key[0] == "0" for key in everything - others)
    first, second = (set(keys(part, n_left // 2)) for part in parts)
    assert not first & second
    # And a stream goes on at any place.
    places = list(islice(SampleStream(own), n_own + 3))
    for n in (0, 10, n_own - 1):
        again = SampleStream(own, places[n][1])
        assert keys(again, 3) == [sample.key for sample, _ in places[n + 1 : n + 4]]


def test_shards_to_validate_on_are_found(shards):
    urls = shards([1, 1, 1])
    assert find_shards(urls) == Shards(urls[:2], urls[2:])
    assert find_shards(urls, urls[:1]) == Shards(urls[1:], urls[:1])
    assert find_shards(urls, (), 0.2) == Shards(urls, urls, 0.2)
    assert find_shards(urls[:1]) == Shards(urls[:1], urls[:1], 0.1)
    with pytest.raises(ConfigError, match="pass one"):
        find_shards(urls, urls[:1], 0.2)
    with pytest.raises(ConfigError, match="below 1"):
        LoopConfig("out", urls, held_out_share=1.0)


def test_a_share_without_a_sample_is_said(shards):
    stream = SampleStream(
        StreamConfig(shards([2]), held_out_share=1e-9, held_out=True),
    )
    with pytest.raises(ConfigError, match="pass more than --held-out-share 1e-09"):
        first_images(stream, 4, AlignSettings("none", "largest", 8, 8))


def test_pixels_of_a_read_only_array_are_no_warning(shards, recwarn):
    stream = SampleStream(StreamConfig(shards([1])))
    images, _, _ = first_images(stream, 1, AlignSettings("none", "largest", 16, 16))
    assert images.shape == (1, 3, 16, 16)
    assert not recwarn.list
