"""Classes of samples, for a generator that draws by class: where they stand, and which there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from generators.claims import MAX_WIDTH
from pipeline.errors import ConfigError
from pipeline.records import Sample
from pipeline.shards import labels
from pipeline.storage import redact
from pipeline.training import state
from pipeline.training.stream import SampleStream, StreamConfig

MAX_CLASSES = MAX_WIDTH  # what a generator's labels may have entries
N_SHOWN = 10  # classes that a sentence names


@dataclass(frozen=True)
class Classes:
    """Which class a sample is of."""

    source: str  # "cls", or a key of the .json
    names: tuple[str, ...]  # in the order of the generator's labels

    @property
    def field(self) -> str:
        """The member that is read."""
        return labels.field_of(self.source)

    def label_of(self, sample: Sample) -> Tensor | None:
        """One-hot, [n]; None: it is of none of these classes, or does not say of which."""
        name = labels.class_of(sample, self.source)
        if name not in self.names:
            return None
        label = torch.zeros(len(self.names))
        label[self.names.index(name)] = 1
        return label


@dataclass(frozen=True)
class Counted:
    """The classes of a data set."""

    n_by_name: dict[str, int]  # in the order of the generator's labels
    n_without: int  # samples

    def __str__(self) -> str:
        """A sentence for people."""
        shown = [f"{name} ({n:,})" for name, n in list(self.n_by_name.items())[:N_SHOWN]]
        more = len(self.n_by_name) - len(shown)
        rest = f" and {more:,} more" if more else ""
        without = (
            f"; {self.n_without:,} samples have none and are left out" if self.n_without else ""
        )
        return f"{len(self.n_by_name):,} classes: {', '.join(shown)}{rest}{without}"


def count(urls: Sequence[str], source: str) -> Counted:
    """Read all samples once, and count those of each class; of a shard that breaks off, what came before.

    Classes are in the order of their numbers, or, unless all are numbers, of the alphabet.

    Raises:
        ConfigError: there are fewer than two classes, or more than a generator can have.
    """
    stream = SampleStream(StreamConfig(tuple(urls), fields=frozenset({labels.field_of(source)})))
    found: Counter[str | None] = Counter()
    for url in urls:
        for sample in stream.of_shard(url):
            found[labels.class_of(sample, source)] += 1
            if len(found) > MAX_CLASSES:
                raise ConfigError(
                    f"--classes {source} has more than {MAX_CLASSES:,} values, which are no classes; pass "
                    "another key of the .json, or name the classes with --class-names"
                )
    n_without = found.pop(None, 0)
    names = [name for name in found if name is not None]
    if len(names) < 2:
        has = f"one class, {names[0]!r}" if names else "no class"
        raise ConfigError(
            f"the samples of {redact(urls[0])} and its like have {has} by --classes {source}; pass cls, for "
            "their .cls, or a key of their .json that holds texts, whole numbers, true or false, or train "
            "without --classes"
        )
    return Counted({name: found[name] for name in ordered(names)}, n_without)


def ordered(names: Sequence[str]) -> list[str]:
    """By number where all are numbers, else by the alphabet."""
    if all(name.removeprefix("-").isdecimal() and name.isascii() for name in names):
        return sorted(names, key=int)
    return sorted(names)


def of_run(folder: Path, source: str, urls: Sequence[str]) -> tuple[str, ...] | None:
    """The classes that a run in this folder counted in these shards; None: no such run is there to go on."""
    before = state.settings(folder)
    same = before.get("classes") == source
    if not same or before.get("shards") != [redact(url) for url in urls]:
        return None
    names = before.get("class_names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    return tuple(names)
