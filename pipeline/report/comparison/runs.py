"""The runs of a comparison, and the rows that all of them have."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import PurePath

import numpy as np

from pipeline import storage
from pipeline.config import REFINE_WEIGHTS
from pipeline.engine.progress import Throughput, throughput
from pipeline.errors import ConfigError
from pipeline.report import source
from pipeline.report.source import Run

# Settings that leave rows and numbers as they are, and those that people cannot read.
NOT_TOLD = (
    "metrics", "identity_steps", "latents", "save_images", "protocol", "keep_fields", "auto",
    "labels_on", "labels_sha256",
)  # fmt: skip
ROWS_DEPEND_ON = ("align", "faces")
FACE_BITS = 16  # of the number that names a row of a shard; the rest is the sample


@dataclass(frozen=True)
class Compared:
    """One run."""

    name: str  # the end of its path, as much as tells it from the others
    run: Run
    differs: str  # from the others in these settings, for people
    throughput: Throughput | None  # None where none was kept

    @property
    def model(self) -> str:
        footer = self.run.footer
        return " → ".join(
            source.checkpoint_name(footer[n]) for n in ("model", "then") if footer.get(n)
        )


@dataclass(frozen=True)
class Common:
    """Rows that came out in every run."""

    numbers: np.ndarray  # [n_runs, n]: of a row, in each run
    images: np.ndarray  # [n]: which image it is of, from 0; rows are faces
    n_left_out: int  # rows of the first run that did not come out in all

    @property
    def n_images(self) -> int:
        return int(self.images.max()) + 1 if len(self.images) else 0


def open_runs(folders: Sequence[str]) -> list[Compared]:
    """Open runs over the same images.

    Raises:
        ConfigError: fewer than two, inputs that differ, or numbers that mean different things.
    """
    if len(folders) < 2:
        raise ConfigError("a comparison needs at least two runs; pass two folders of latents")
    runs = [source.open_run(folder) for folder in folders]
    names = _names(folders)
    for name, run in zip(names, runs, strict=True):
        if run.n_edits:
            raise ConfigError(
                f"{name} holds edits; compare the inversions that they were made from"
            )
    for name, run in zip(names[1:], runs[1:], strict=True):
        _require_same_input(names[0], runs[0], name, run)
        _require_same_protocol(names[0], runs[0], name, run)
    labels = [_told(run) for run in runs]
    return [
        Compared(
            name,
            run,
            ", ".join(word for word in of_run if any(word not in other for other in labels)),
            throughput(folder, run.footer["fingerprint"]),
        )
        for name, folder, run, of_run in zip(names, folders, runs, labels, strict=True)
    ]


def _names(folders: Sequence[str]) -> list[str]:
    paths = [
        PurePath(storage.redact(f) if storage.is_remote(f) else os.path.abspath(f)) for f in folders
    ]
    if len(set(paths)) < len(paths):
        raise ConfigError("the same folder is given twice; a run is compared with others")
    for depth in range(1, max(len(path.parts) for path in paths)):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def _told(run: Run) -> list[str]:
    words = []
    for name, value in run.settings.items():
        if name in NOT_TOLD or (name in REFINE_WEIGHTS and not value):
            continue
        if name.endswith("_sha256"):
            name, value = name.removesuffix("_sha256"), str(value)[:8]
        if name == "steps":
            words.append(f"{'at most ' * ('auto' in run.settings)}{value} steps")
        else:
            words.append(f"{name.replace('_', ' ')} {value}")
    return words


def _require_same_input(first_name: str, first: Run, name: str, run: Run) -> None:
    for setting in ROWS_DEPEND_ON:
        ours, theirs = first.settings[setting], run.settings[setting]
        if ours != theirs:
            raise ConfigError(
                f"{first_name} was run with --{setting} {ours} and {name} with --{setting} {theirs}, "
                "so their rows are of different pictures; compare runs with the same"
            )
    ours, theirs = ({f.shard: f.version for f in r.files} for r in (first, run))
    for here, absent, shards in ((first_name, name, ours), (name, first_name, theirs)):
        missing = sorted(shards.keys() - (theirs if shards is ours else ours).keys())
        if missing:
            raise ConfigError(
                f"{here} has rows of {missing[0]} and {absent} has not; finish that run, or compare "
                "runs over the same shards"
            )
    changed = sorted(shard for shard in ours if ours[shard] != theirs[shard])
    if changed:
        raise ConfigError(
            f"{changed[0]} was a different file when {name} read it than for {first_name}; invert the "
            "same shards again to compare them"
        )


def _require_same_protocol(first_name: str, first: Run, name: str, run: Run) -> None:
    ours, theirs = (r.footer.get("metric_protocol", "").split(";")[0] for r in (first, run))
    if ours != theirs:
        if _is_clamped(ours) != _is_clamped(theirs):
            older = name if _is_clamped(ours) else first_name
            raise ConfigError(
                f"{older} was measured by an earlier release, which did not clamp reconstructions to [-1, 1] "
                "first, so that its errors are larger for the same pictures; invert its shards again with "
                "this release to compare them"
            )
        raise ConfigError(
            f"{first_name} was measured on {ours} and {name} on {theirs}, so their numbers cannot be "
            "compared; compare models with the same input size"
        )


def _is_clamped(protocol: str) -> bool:
    """Since protocol 3."""
    return "clamped" in protocol


def measures_the_same(first: Run, run: Run, metric: str) -> bool:
    """Whether a metric is in both runs and of the same network, where it needs one."""
    if metric not in run.settings["metrics"]:
        return False
    by = f"{metric}_sha256"
    if first.settings.get(by) != run.settings.get(by):
        return False
    # dlib's was a cosine before protocol 3, and is 1 - distance since.
    is_dlibs = metric == "identity" and by not in first.settings
    kinds = {each.settings.get("protocol", 1) >= 3 for each in (first, run)}
    return not is_dlibs or len(kinds) == 1


def common_rows(runs: Sequence[Compared]) -> Common:
    """Match rows by shard, sample and face.

    Raises:
        ConfigError: a shard held other samples in another run.
    """
    numbers, images, n_images = [], [], 0
    places = [_places(compared.run) for compared in runs]
    for shard in places[0]:
        of_shard = [_rows(c.run, *of_run[shard]) for c, of_run in zip(runs, places, strict=True)]
        first = of_shard[0]
        for compared, rows in zip(runs, of_shard, strict=True):
            if rows.samples() != first.samples():
                raise ConfigError(
                    f"{shard} held different samples for {compared.name} than for {runs[0].name}; "
                    "invert the same shards again to compare them"
                )
        codes = reduce(np.intersect1d, [rows.codes[rows.is_ok] for rows in of_shard])
        numbers.append(np.stack([rows.numbers_of(codes) for rows in of_shard]))
        _, ranks = np.unique(codes >> FACE_BITS, return_inverse=True)
        images.append(n_images + ranks)
        n_images += int(ranks.max()) + 1 if len(ranks) else 0
    matched = np.concatenate(numbers, axis=1)
    return Common(matched, np.concatenate(images), runs[0].run.n_rows - matched.shape[1])


@dataclass(frozen=True)
class _Rows:
    """The rows of one shard in one run."""

    start: int  # number of the first
    keys: list[str]
    codes: np.ndarray  # sample and face in one number
    is_ok: np.ndarray

    def samples(self) -> dict[int, str]:
        return dict(zip((self.codes >> FACE_BITS).tolist(), self.keys, strict=True))

    def numbers_of(self, codes: np.ndarray) -> np.ndarray:
        order = np.argsort(self.codes)
        return self.start + order[np.searchsorted(self.codes, codes, sorter=order)]


def _places(run: Run) -> dict[str, tuple[str, int]]:
    """Of each shard its file and the number of its first row."""
    places, start = {}, 0
    for part in run.files:
        places[part.shard] = (part.name, start)
        start += part.n_rows
    return places


def _rows(run: Run, name: str, start: int) -> _Rows:
    with run.opened(name) as file:
        table = file.read(columns=["key", "sample_index", "face", "status"])
    samples, faces = (table[n].to_numpy().astype(np.int64) for n in ("sample_index", "face"))
    return _Rows(
        start,
        table["key"].to_pylist(),
        (samples << FACE_BITS) + faces + 1,
        np.array([status == "ok" for status in table["status"].to_pylist()], bool),
    )
