"""The stream of samples: each once an epoch, shared without overlap, and going on where it stopped."""

from collections import Counter
from itertools import islice

import pytest

from pipeline.errors import ConfigError
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
