"""The generator tuned for single rows (`encoders.pivotal`): found in files beside them, or tuned and kept.

A delta belongs to one row of one run and one generator. It is found by what it was tuned for, so that it is
the same file whatever rows are selected beside it, and a run that was stopped goes on.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from PIL import Image
from torch import Tensor

from encoders.pivotal import TuningConfig, tune
from generators import delta as deltas
from generators.delta import Delta, Origin
from generators.files import atomic
from pipeline import storage
from pipeline.config import RUN_FOLDER, setting
from pipeline.errors import ConfigError, OutOfMemory
from pipeline.faces import alignment, images
from pipeline.faces.prepare import MIN_TRANSFORM_SIZE
from pipeline.latents.files import opened
from pipeline.latents.names import RowNames, plain_key
from pipeline.latents.record import require_columns
from pipeline.latents.where import RowFilter
from pipeline.models import DrawConfig, LatentRenderer, is_out_of_memory
from pipeline.shards.photos import SourcePhotos, SourceUnusable
from pipeline.storage.folder import Folder

PIVOT = "Pivotal tuning"  # heading of the flags
FOLDER = f"{RUN_FOLDER}/pivots"  # beside the rows
PROTOCOL = 1  # raised when the same settings would tune to other weights than before
MAX_ROWS = 100  # that are tuned without --pivot-many
MAX_STEPS = 10_000
MAX_NAME = 80  # characters of a key in the name of a file
COLUMNS = (
    "aligned_image",
    "quad",
    "width",
    "height",
)  # of a row, where there are such, to tune for it
KEPT = "restyle invert --save-images keeps the crops that --pivot needs"


@dataclass(frozen=True)
class PivotConfig(DrawConfig):
    """How rows are drawn, and whether the generator is tuned for each of them."""

    pivot: int | None = setting(
        None,
        "Tune the generator in so many steps (such as 100) to each selected row's own picture, and draw the "
        "row with it: pivotal tuning, for tens of images. 0: draw edits without the tuning that they were "
        "made with. Default: as the rows were drawn before.",
        PIVOT,
        least=0,
        most=MAX_STEPS,
    )
    pivots: str | None = setting(
        None, f"Local folder of the tuned weights. Default: {FOLDER} in the folder LATENTS.", PIVOT
    )
    pivot_many: bool = setting(False, f"Tune also for more than {MAX_ROWS} rows.", PIVOT)
    photos: str | None = setting(
        None,
        "Folder or address of the shards, to tune to the photos at full size. Default: the saved crops, or "
        "the shards where they were inverted, on this machine.",
        PIVOT,
    )


@dataclass(frozen=True)
class Pivots:
    """Which deltas rows of a run are drawn with; travels to workers."""

    folder: str  # local and absolute
    n_steps: int
    photos: str | None  # where the shards lie, as the user says
    of_edits: bool  # whose own deltas must be there: where their pivots were, the rows do not say

    @property
    def tuning(self) -> TuningConfig:
        return TuningConfig(n_steps=self.n_steps)


def settings_of(tuning: TuningConfig) -> str:
    """All of a tuning but for its steps, as its file and the settings of an edit name it."""
    return f"{PROTOCOL}: rank {tuning.rank}, rate {tuning.lr:g}, locality {tuning.locality:g}"


def chosen(config: PivotConfig, latents: str, record: Mapping[str, Any]) -> Pivots | None:
    """The pivots that rows of a folder are to be drawn with; None: by the run's own generator.

    Args:
        record: footer of one of its files.

    Raises:
        ConfigError: they cannot be kept where the rows are.
    """
    identity = record.get("identity", {})
    of_edits = "edit_directions" in identity
    n_steps = config.pivot
    if n_steps is None and of_edits:
        n_steps = identity.get("edit_pivot")
    if not n_steps:
        if config.pivots is not None and config.pivot is None:
            raise ConfigError("--pivots goes with --pivot, such as --pivot 100")
        return None
    if n_steps > MAX_STEPS:
        raise ConfigError(f"these edits state a tuning of {n_steps} steps; the folder is damaged")
    path = _local(latents if config.pivots is None else config.pivots)
    if config.pivots is None:
        path = os.path.join(path, FOLDER)
    photos = None if config.photos is None else storage.absolute(config.photos)
    return Pivots(path, n_steps, photos, of_edits)


def _local(address: str) -> str:
    """The path of a folder of this machine.

    Raises:
        ConfigError: it is elsewhere.
    """
    is_elsewhere = storage.is_remote(address) and not address.startswith("file://")
    if is_elsewhere or not (folder := Folder(address)).is_local:
        raise ConfigError(
            f"tuned weights are kept in a local folder, not in {storage.redact(address)}; pass one as "
            "--pivots"
        )
    return os.path.abspath(folder.path)


def require_few(
    n_rows: int, pivots: Pivots, config: PivotConfig, renderer: LatentRenderer, advice: str
) -> None:
    """Refuse to tune for many rows unless that is confirmed.

    Args:
        advice: how fewer are selected.

    Raises:
        ConfigError: says how long it would take, on this machine.
    """
    if n_rows <= MAX_ROWS or config.pivot_many or pivots.of_edits:
        return
    each = seconds_per_row(renderer, pivots.n_steps)
    raise ConfigError(
        f"{n_rows:,} rows are selected, and --pivot tunes the generator for each of them by itself, which "
        f"takes about {duration(each)} per row on this machine, {duration(n_rows * each)} in all; it is meant "
        f"for tens of images: {advice}, or pass --pivot-many to do it all the same"
    )


def seconds_per_row(renderer: LatentRenderer, n_steps: int) -> float:
    """How long the tuning for one row takes here, measured by a few steps."""
    model = renderer.model
    picture = torch.zeros(3, *renderer.size)
    taken = []
    for n in (1, 4):
        start = time.monotonic()
        tune(model, model.latent_avg, picture, TuningConfig(n_steps=n))
        taken.append(time.monotonic() - start)
    first, more = taken
    return first + max(more - first, 0.0) / 3 * (n_steps - 1)


def duration(seconds: float) -> str:
    """Such as ``3 hours``: for people."""
    for size, unit in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(1, round(seconds))} s"


def n_selected(
    urls: Sequence[str], keys: frozenset[str] = frozenset(), where: str | None = None
) -> int:
    """Rows with a latent that are selected in these files.

    Args:
        keys: as `plain_key` gives them; none: all.
        where: a filter as of :class:`RowFilter`; None: all.
    """
    n = 0
    for url in urls:
        with opened(*storage.filesystem(url)) as source:
            require_columns(source.schema_arrow, ("key", "status"), url)
            filter_ = None if where is None else RowFilter(where, source.schema_arrow)
            columns = {"key", "status", *(() if filter_ is None else filter_.columns)}
            for batch in source.iter_batches(columns=sorted(columns)):
                is_meant = pc.equal(batch.column("status"), "ok").to_numpy(zero_copy_only=False)
                if filter_ is not None:
                    is_meant = is_meant & filter_.mask(pa.Table.from_batches([batch]))
                if keys:
                    names = batch.column("key").to_pylist()
                    is_meant = is_meant & np.array(
                        [plain_key(name) in keys for name in names], bool
                    )
                n += int(is_meant.sum())
    return n


@dataclass
class Tunings:
    """What was done for the rows of some files."""

    there: set[str] = field(default_factory=set)  # files of those that an earlier call had tuned
    before: tuple[float, ...] = ()  # mean squared errors of the pictures that were tuned for
    after: tuple[float, ...] = ()
    seconds: float = 0.0  # of the tuning

    @property
    def n_tuned(self) -> int:
        return len(self.before)

    @property
    def n_there(self) -> int:
        return len(self.there)


class FilePivots:
    """The deltas of the rows of one Parquet file, asked for in stored order."""

    def __init__(
        self,
        pivots: Pivots,
        renderer: LatentRenderer,
        record: Mapping[str, Any],  # the file's footer
        done: Tunings | None = None,  # added to
        copies: str | None = None,  # another local folder that is to hold them too
    ) -> None:
        self.done = Tunings() if done is None else done
        self._pivots, self._renderer, self._record = pivots, renderer, record
        self._copies = None if copies is None else Path(copies)
        self._photos: SourcePhotos | None = None
        self._last: tuple[Origin, Delta] | None = None  # several pictures of a row come in turn

    def of(self, row: Mapping[str, Any]) -> Delta:
        """What the generator is changed by for a row, on the renderer's device: from its file, or tuned now.

        Args:
            row: with `key`, `sample_index`, `face` and `latent` [n_styles, w_dim], and of :data:`COLUMNS`
                those that there are.

        Raises:
            ConfigError: nothing to tune to, or no file where there must be one.
            CheckpointError: the file cannot be used, or not be written.
            ShardError: the photo cannot be read.
            OutOfMemory: tuning needs more than there is.
        """
        origin, model = self._origin(row), self._renderer.model
        if self._last is not None and self._last[0] == origin:
            return self._last[1]
        path = Path(self._pivots.folder, _name(origin))
        if path.exists():
            found = deltas.load(path, model.generator.synthesis, origin)
            self.done.there.add(path.name)
        elif self._pivots.of_edits:
            raise ConfigError(
                f"the edits of {plain_key(origin.key)} were drawn by a generator tuned in {origin.n_steps} "
                f"steps, which is not in {self._pivots.folder}; pass --pivots with {FOLDER} of the latents "
                "that were edited, or --pivot 0 to draw without"
            )
        else:
            found = self._tuned(row, origin, path)
        if self._copies is not None and not (copy := self._copies / path.name).exists():
            _copy(path, copy)
        self._last = origin, found.to(model.latent_avg.device)
        return self._last[1]

    def _origin(self, row: Mapping[str, Any]) -> Origin:
        identity = self._record.get("identity", {})
        run = identity.get("edit_source", self._record.get("fingerprint"))
        latent_sha256 = ""  # of edits, any: which latent they were made of, they do not say
        if not self._pivots.of_edits:
            latent = np.ascontiguousarray(row["latent"], np.dtype("<f4"))
            latent_sha256 = hashlib.sha256(latent.tobytes()).hexdigest()
        return Origin(
            generator_sha256=str(identity.get("generator_sha256")),
            run=str(run),
            shard=str(self._record.get("shard")),
            key=row["key"],
            sample_index=row["sample_index"],
            face=row["face"],
            n_steps=self._pivots.n_steps,
            settings=settings_of(self._pivots.tuning),
            latent_sha256=latent_sha256,
        )

    def _tuned(self, row: Mapping[str, Any], origin: Origin, path: Path) -> Delta:
        target = self._target(row)
        start = time.monotonic()
        # By the row alone, whatever is selected beside it.
        seed = int.from_bytes(hashlib.sha256(f"{origin.key}\n{origin.face}".encode()).digest()[:7])
        latent = torch.from_numpy(np.array(row["latent"], np.float32))
        try:
            found = tune(self._renderer.model, latent, target, self._pivots.tuning, seed)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise OutOfMemory(
                "the generator and what its tuning needs do not fit in memory; use a machine with more of it"
            ) from None
        _make_folder(path.parent)
        deltas.save(path, found.delta, origin, f"MSE {found.before:.6f} -> {found.after:.6f}")
        self.done.before += (found.before,)
        self.done.after += (found.after,)
        self.done.seconds += time.monotonic() - start
        return found.delta

    def _target(self, row: Mapping[str, Any]) -> Tensor:
        """The picture of a row, [3, h, w] in [-1, 1]: of the size that is drawn, or a saved crop."""
        saved = row.get("aligned_image")
        if saved is not None and self._pivots.photos is None:
            picture, size = images.decode_or_none(saved), tuple(self._renderer.input_size)
        else:
            picture, size = self._cropped(row), self._renderer.size
        if picture is None or picture.shape[:2] != size:
            raise ConfigError(
                f"the picture of {plain_key(row['key'])} is damaged; verify the folder, or pass --photos"
            )
        return torch.from_numpy(picture).permute(2, 0, 1).float() / 127.5 - 1

    def _cropped(self, row: Mapping[str, Any]) -> np.ndarray | None:
        """What the encoder saw of the photo, at the size that is drawn; None of a photo that is damaged."""
        photo = self._photo(row)
        if photo is None:
            return None
        height, width = self._renderer.size
        if row.get("quad") is not None:
            side = max(height, width)
            try:
                photo = alignment.crop(photo, row["quad"], side, max(MIN_TRANSFORM_SIZE, side))
            except ValueError as error:
                raise ConfigError(
                    f"{plain_key(row['key'])} cannot be cropped again: {error}"
                ) from None
        resized = Image.fromarray(photo).resize((width, height), Image.Resampling.BILINEAR)
        return np.array(resized)

    def _photo(self, row: Mapping[str, Any]) -> np.ndarray | None:
        try:
            if self._photos is None:
                version = self._record.get("input_identity", "")
                shard, photos = self._record["shard"], self._pivots.photos
                self._photos = SourcePhotos(shard, images.decode_or_none, photos, version)
            return self._photos.of(row)
        except SourceUnusable as error:
            raise ConfigError(
                f"{plain_key(row['key'])} has no saved crop to tune to, and its shard {error}; {KEPT}"
            ) from None


def _name(origin: Origin) -> str:
    """Of a delta's file: for people, and the same for nothing else."""
    parts = RowNames().path(
        {"key": origin.key, "face": origin.face, "sample_index": origin.sample_index}
    )
    of = json.dumps([*origin.row, origin.generator_sha256, origin.n_steps, origin.settings])
    digest = hashlib.sha256(of.encode(errors="surrogatepass")).hexdigest()[:16]
    return f"{parts.replace('/', '_')[:MAX_NAME]}.{digest}.safetensors"


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"cannot make {path} ({error.strerror or error}); pass another folder as --pivots"
        ) from None


def _copy(path: Path, copy: Path) -> None:
    _make_folder(copy.parent)
    try:
        atomic.write_bytes(copy, path.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot write {copy} ({error.strerror or error})") from None
