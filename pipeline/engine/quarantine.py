"""A shard at which workers died is processed under watch, until the sample that kills them is known.

A sample can kill its actor where no exception is raised: a crash inside a library, or the kernel out of
memory. A process may as well die for no fault of the data. So nothing is believed that did not happen twice:
the worker notes what it is about to do where the driver finds it, first whole batches, then the samples
of the batch that it died at one by one.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from pipeline.config import RUN_FOLDER
from pipeline.records import CRASHED_ERROR, AlignedFace, Sample, Status
from pipeline.storage.filesystems import as_config_error, make_folder
from pipeline.storage.folder import Folder

FOLDER = f"{RUN_FOLDER}/careful"
N_DEATHS_UNEXPLAINED = 8  # at which a shard is given up; each sample found may cost three more
N_DEATHS_TO_FIND = 3  # at its batch, then twice at the sample
# Samples left out, above which the cause is no sample: the machine, the model, the driver of the GPU.
MAX_CRASHED = 8


@dataclass(frozen=True)
class CrashSearch:
    """What the deaths at one shard have taught so far."""

    batch: tuple[int, int] | None = None  # first and last sample of the one that a worker died at
    sample: int | None = None  # at which a worker died once
    crashed: tuple[int, ...] = ()  # samples at which it died again: left out

    def is_exhausted(self, n_deaths: int) -> bool:
        """Whether so many deaths at one shard end the search."""
        allowed = N_DEATHS_UNEXPLAINED + N_DEATHS_TO_FIND * len(self.crashed)
        return n_deaths > allowed or len(self.crashed) > MAX_CRASHED


def narrowed(search: CrashSearch, place: tuple[int, int] | None) -> CrashSearch:
    """Care after one more death; place: first and last sample of what was under way, if known."""
    if place is None:
        return search
    first, last = place
    if first != last:
        return replace(search, batch=place, sample=None)
    if search.sample == first:
        return replace(search, sample=None, crashed=tuple(sorted({*search.crashed, first})))
    return replace(search, sample=first)


class CrashRecorder:
    """The worker's side: leaves out what is known, and notes each step before it is taken."""

    def __init__(self, out: str, output: str, search: CrashSearch) -> None:
        self._folder, self._name = Folder(out), f"{FOLDER}/{output}"
        self._search = search
        with as_config_error("write to", out):
            make_folder(self._folder.files, self._folder.at(FOLDER))

    def samples(self, source: Iterator[Sample]) -> Iterator[Sample]:
        """The samples, those that crash without their image."""
        for sample in source:
            if sample.index in self._search.crashed:
                sample = replace(sample, image=None, status=Status.CRASHED, error=CRASHED_ERROR)
            yield sample

    def suspected(self, faces: Sequence[AlignedFace]) -> list[AlignedFace]:
        """Those to be tried alone before their batch is."""
        first, last = self._search.batch or (0, -1)
        return [f for f in faces if first <= f.index <= last and f.image_u8 is not None]

    def note(self, first: int, last: int) -> None:
        """Leave word that these samples are next.

        Raises:
            ConfigError: that fails.
        """
        # In place: half a note is no note, and a move more per sample would only cost time.
        path = self._folder.at(self._name)
        with (
            as_config_error("write to", self._folder.address),
            self._folder.files.open_output_stream(path) as stream,
        ):
            stream.write(json.dumps([first, last]).encode())


def pop_last_position(out: str, output: str) -> tuple[int, int] | None:
    """What a watched worker noted last, and the note is taken away; None where there is none."""
    try:
        folder, name = Folder(out), f"{FOLDER}/{output}"
        note = folder.read_json(name)
        if note is None:
            return None
        first, last = map(operator.index, note)
        folder.delete(name)
    except Exception:  # it died while writing, or the store fails; the next one will tell
        return None
    return first, last
