"""The endless, shuffled stream of a worker's samples: each once an epoch, and a place to go on from.

Samples are taken in chunks of consecutive ones, each shuffled by a seed that follows from its place. So a
stream goes on exactly where it stopped after reading at most one shard again, whatever the size of the set.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice

from pipeline.errors import ConfigError, ShardError
from pipeline.records import Sample
from pipeline.shards import reader
from pipeline.storage import redact


@dataclass(frozen=True)
class Position:
    """A place in the stream: where the current chunk begins, and how much of it was taken."""

    epoch: int = 0
    shard: int = 0  # in the epoch's order of this worker's shards
    sample: int = 0  # in that shard
    taken: int = 0  # of the chunk


@dataclass(frozen=True)
class StreamConfig:
    """What decides which samples come, and in which order."""

    urls: tuple[str, ...]
    seed: int = 0
    worker: int = 0  # of n_workers, which share an epoch's samples without overlap
    n_workers: int = 1
    chunk: int = 2048  # samples shuffled together, held as undecoded bytes
    fields: frozenset[str] = frozenset()  # further members wanted of a sample, by extension
    held_out_share: float = 0.0  # of all samples, by their keys
    held_out: bool = False  # whether that share comes, or the others do

    def wants(self, key: str) -> bool:
        """Whether a sample belongs to this stream."""
        return not self.held_out_share or is_held_out(key, self.held_out_share) == self.held_out


def is_held_out(key: str, share: float) -> bool:
    """Whether a sample is never trained on: by its key alone, whatever else a set holds or is given."""
    digest = hashlib.sha256(key.encode(errors="surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


@dataclass
class SampleStream:
    """Iterates over (sample, position behind it) without end.

    A shard that breaks off gives what came before; it is noted in ``broken``, and the stream goes on.

    Raises:
        ConfigError: a whole epoch without a sample.
    """

    config: StreamConfig
    begin: Position = Position()
    broken: dict[str, str] = field(default_factory=dict)  # URL -> what was wrong
    _empty: set[str] = field(default_factory=set)  # URLs that gave no sample when last read

    def __iter__(self) -> Iterator[tuple[Sample, Position]]:
        position = self.begin
        while True:
            begin = replace(position, taken=0)
            source = self._stored_order(begin)
            n_seen = 0
            while chunk := list(islice(source, self.config.chunk)):
                n_seen += len(chunk)
                end = chunk[-1][1]
                self._shuffle(chunk, begin)
                n_chunk, chunk = len(chunk), chunk[position.taken :]
                for n in range(position.taken, n_chunk):
                    sample, _ = chunk.pop(0)  # let go of, so that two chunks are never held
                    yield sample, end if n + 1 == n_chunk else replace(begin, taken=n + 1)
                begin = position = end
            if not n_seen and len(self._empty) == len(self.config.urls):
                raise ConfigError(self._emptiness())
            position = Position(begin.epoch + 1)

    def _shuffle(self, chunk: list[tuple[Sample, Position]], begin: Position) -> None:
        random.Random(f"{self.config.seed} {self.config.worker} {begin}").shuffle(chunk)

    def _stored_order(self, begin: Position) -> Iterator[tuple[Sample, Position]]:
        """The rest of an epoch, each sample with the place behind it."""
        shards = self._shards(begin.epoch)
        first = begin.sample
        for number in range(begin.shard, len(shards)):
            source = islice(self.of_shard(shards[number]), first, None)
            for n, sample in enumerate(source, first):
                yield sample, Position(begin.epoch, number, n + 1)
            first = 0

    def _shards(self, epoch: int) -> list[str]:
        """This worker's shards in this epoch's order; all of them where there are too few to share."""
        shards = list(self.config.urls)
        random.Random(f"{self.config.seed} {epoch}").shuffle(shards)
        if len(shards) < self.config.n_workers:
            return shards
        return shards[self.config.worker :: self.config.n_workers]

    def of_shard(self, url: str) -> Iterator[Sample]:
        """This worker's samples of one shard, in stored order."""
        source: Iterator[Sample] = (s for s in self.read(url) if self.config.wants(s.key))
        if len(self.config.urls) < self.config.n_workers:
            source = islice(source, self.config.worker, None, self.config.n_workers)
        self._empty.add(url)
        try:
            for sample in source:
                self._empty.discard(url)
                yield sample
        except ShardError as error:
            self.broken[url] = str(error)

    def read(self, url: str) -> Iterator[Sample]:
        """All samples of one shard, in stored order."""
        return reader.samples(url, self.config.fields)

    def _emptiness(self) -> str:
        problems = "; ".join(list(self.broken.values())[:3])
        n = len(self.config.urls)
        if problems:
            return f"none of the {n} shards holds a sample that can be read: {problems}"
        return f"{n} shards have no sample to train on; the first is {redact(self.config.urls[0])}"
