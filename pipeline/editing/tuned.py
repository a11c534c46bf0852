"""The generator tuned for the rows of a file: found in files beside them, or tuned and kept.

A delta belongs to one row of one run and one generator. It is found by what it was tuned for, so that it is
the same file whatever rows are selected beside it, and a run that was stopped goes on.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from encoders.metrics.perceptual import LPIPS
from encoders.pivotal import Distance, tune
from generators import delta as deltas
from generators.delta import Delta, Origin
from generators.files import atomic
from pipeline.editing.pivots import FOLDER, Pivots
from pipeline.errors import ConfigError, OutOfMemory
from pipeline.faces import images
from pipeline.faces.prepare import cropped
from pipeline.latents.names import RowNames, plain_key
from pipeline.models import LatentRenderer, is_out_of_memory
from pipeline.shards.photos import Recorded, SourcePhotos, SourceUnusable

COLUMNS = (
    "aligned_image",
    "quad",
    "width",
    "height",
)  # of a row, where there are such, to tune for it
MAX_NAME = 80  # characters of a key in the name of a file
KEPT = "restyle invert --save-images keeps the crops that --pivot needs"


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
        self._network: LPIPS | None = None
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
                f"{self._pivots.folder} has no generator tuned to {plain_key(origin.key)} in "
                f"{origin.n_steps} steps; pass --pivots with {FOLDER} of the latents that were edited, or "
                "--pivot 0 to draw without"
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
            settings=self._pivots.settings,
            latent_sha256=latent_sha256,
        )

    def _tuned(self, row: Mapping[str, Any], origin: Origin, path: Path) -> Delta:
        target = self._target(row)
        start = time.monotonic()
        seed = seed_of(origin.key, origin.face)
        latent = torch.from_numpy(np.array(row["latent"], np.float32))
        try:
            tuning = self._pivots.tuning
            found = tune(self._renderer.model, latent, target, tuning, seed, self._objectives())
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

    def _objectives(self) -> list[tuple[float, Distance]]:
        """What is made small beside the mean squared error."""
        lpips = self._pivots.lpips
        if lpips is None:
            return []
        if self._network is None:
            self._network = lpips.load().to(self._renderer.model.latent_avg.device)
        return [(lpips.weight, self._network)]

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
        try:
            return cropped(photo, row.get("quad"), self._renderer.size)
        except ValueError as error:
            name = plain_key(row["key"])
            raise ConfigError(f"{name} cannot be cropped again: {error}") from None

    def _photo(self, row: Mapping[str, Any]) -> np.ndarray | None:
        try:
            if self._photos is None:
                place = self._record["shard"], images.decode_or_none, self._pivots.photos
                self._photos = SourcePhotos(*place, *Recorded.of(self._record))
            return self._photos.of(row)
        except SourceUnusable as error:
            raise ConfigError(
                f"{plain_key(row['key'])} has no saved crop to tune to, and its shard {error}; {KEPT}"
            ) from None


def seed_of(key: str, face: int) -> int:
    """Of a tuning: by the row alone, whatever is selected beside it."""
    return int.from_bytes(hashlib.sha256(f"{key}\n{face}".encode(errors="replace")).digest()[:7])


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
