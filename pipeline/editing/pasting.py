"""Pictures of one file's rows put back into their photos: what an edit changed, or the whole face."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.editing.unedited import UneditedLatents, UneditedUnusable
from pipeline.errors import ConfigError, ShardError
from pipeline.faces import images
from pipeline.faces.paste import Mask, Mode, paste, paste_difference, whole
from pipeline.latents.names import plain_key
from pipeline.shards.photos import Recorded, SourcePhotos

COLUMNS = ("quad", "landmarks", "width", "height")  # of a row, where there are such
INVERSIONS = "these rows are inversions, not edits"
Draw = Callable[[Sequence[dict[str, Any]]], list[np.ndarray]]


@dataclass(frozen=True)
class PasteConfig:
    """How pictures are put back into their photos."""

    mode: Mode
    mask: Mask
    feather: float  # width of the seam, as a share of the face's square
    photos: str | None  # where the shards lie, as the user says
    source: str | None  # the same of the latents that were edited


def require_possible(record: Mapping[str, Any], columns: Sequence[str], mode: Mode) -> None:
    """Refuse rows that cannot be pasted back in this way.

    Raises:
        ConfigError: it says which way there is.
    """
    if mode == "difference" and not is_edited(record):
        raise ConfigError(
            f"{INVERSIONS}, so that nothing differs and each picture would be its photo; pass --paste-back "
            "replace, or a folder that `restyle edit` wrote"
        )
    if "quad" not in columns and (mode == "replace" or not is_edited(record)):
        raise ConfigError(
            "--paste-back needs to know where the faces were: invert with --align face, or leave it out"
        )


def is_edited(record: Mapping[str, Any]) -> bool:
    """Whether a file's rows are edits, by its footer."""
    return "edit_directions" in record.get("identity", {})


class Pasting:
    """Pastes rows of one file, given in stored order.

    Args:
        record: its footer.
        columns: its columns.

    Raises:
        ConfigError, ShardError: the photos, or the latents that were edited, are not at hand.
    """

    def __init__(
        self, config: PasteConfig, record: Mapping[str, Any], columns: Sequence[str]
    ) -> None:
        require_possible(record, columns, config.mode)
        self._config, self._is_aligned = config, "quad" in columns
        self.replaced = ""  # why faces are replaced where nobody asked for it
        self._unedited = self._source(record)
        place = record["shard"], images.decode_or_none, config.photos
        self._photos = SourcePhotos(*place, *Recorded.of(record))
        self._before: dict[tuple[int, int], np.ndarray] = {}  # pictures without edits, by face

    def _source(self, record: Mapping[str, Any]) -> UneditedLatents | None:
        """None: faces are replaced."""
        if self._config.mode == "replace":
            return None
        if not is_edited(record):
            self.replaced = INVERSIONS
            return None
        try:
            return UneditedLatents(record, self._config.source)
        except UneditedUnusable as error:
            is_asked = self._config.mode == "difference" or self._config.source is not None
            if is_asked or not self._is_aligned:
                raise
            self.replaced = str(error)
            return None

    def __call__(
        self, rows: Sequence[dict[str, Any]], pictures: Sequence[np.ndarray], draw: Draw
    ) -> list[np.ndarray]:
        """The photos of some rows, [H, W, 3] uint8 each, with the pictures in them.

        Args:
            pictures: of the rows.
            draw: the pictures of other rows; called with these rows as they were before the edit.

        Raises:
            ConfigError, ShardError: a photo or a latent is not there, or a row is damaged.
        """
        if self._unedited is not None:
            self._draw_before(rows, self._unedited, draw)
        return [self._pasted(row, one) for row, one in zip(rows, pictures, strict=True)]

    def photo(self, row: Mapping[str, Any]) -> np.ndarray | None:
        """The photo of a row as it is, [H, W, 3] uint8; None where it cannot be decoded.

        Raises:
            ConfigError, ShardError: it is not there.
        """
        return self._photos.of(row)

    def _draw_before(
        self, rows: Sequence[dict[str, Any]], unedited: UneditedLatents, draw: Draw
    ) -> None:
        """Draw each face once, however many edits of it there are."""
        faces = {_face(row): row for row in rows}
        kept = {face: self._before[face] for face in faces if face in self._before}
        new = {f: {**row, "latent": unedited.of(row)} for f, row in faces.items() if f not in kept}
        drawn = draw(list(new.values())) if new else []
        self._before = kept | dict(zip(new, drawn, strict=True))

    def _pasted(self, row: dict[str, Any], picture: np.ndarray) -> np.ndarray:
        photo = self._photos.of(row)
        name = plain_key(row["key"])
        if photo is None:
            raise ShardError(f"{name} has a latent but no photo; verify the folder")
        feather, landmarks = self._config.feather, row.get("landmarks")
        quad = row.get("quad")
        if not self._is_aligned:  # its picture is the whole photo, which has no seam
            quad, feather = whole(photo), 0.0
        if quad is None or not np.isfinite(quad).all():
            raise ConfigError(f"{name} does not tell where its face was; verify the folder")
        points = landmarks if self._config.mask == "face" else None
        try:
            if self._unedited is None:
                return paste(photo, picture, quad, feather)
            before = self._before[_face(row)]
            return paste_difference(photo, picture, before, quad, points, feather)
        except ValueError as error:
            raise ConfigError(f"{name} cannot be pasted back: {error}") from None


def _face(row: Mapping[str, Any]) -> tuple[int, int]:
    return row["sample_index"], row["face"]
