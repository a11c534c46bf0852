"""What became of a face: its latent, its steps, its edits; drawn when they are looked at."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from generators.delta import Delta
from generators.precision import Precision
from pipeline.editing.framing import Framing
from pipeline.editing.tuned import seed_of
from pipeline.errors import ConfigError
from pipeline.faces.paste import FEATHER, Mask, Mode, paste, paste_difference, whole
from pipeline.faces.prepare import cropped
from pipeline.inverter import page, saved
from pipeline.inverter.photo import Photo
from pipeline.inverter.renderer import Renderer
from pipeline.inverter.settings import naming_keywords
from pipeline.latents.schema import Row


class Picture:
    """A latent [n_styles, w_dim] float32 and its picture: that of a face as inverted, or of an edit."""

    latent: Tensor

    @property
    def face(self) -> Face:
        """The face that it is of."""
        raise NotImplementedError

    @cached_property
    def image(self) -> Image.Image:
        """The picture at the generator's full size."""
        with naming_keywords():
            return self.face.renderer.picture(self.latent, self.face.precision, self.face.delta)

    def edit(
        self, direction: str | os.PathLike[str] | Tensor | np.ndarray, strength: float = 1.0
    ) -> Edit:
        """The face moved along a direction; edits of edits add up.

        Args:
            direction: as `restyle edit --direction` takes it ("demo:smile", "smile.safetensors",
                "sefa:0@0-3"), or a tensor or array [n_styles, w_dim] or [w_dim].
            strength: times the direction.

        Raises:
            ConfigError, CheckpointError: the direction cannot be read, or is of another latent space.
        """
        with naming_keywords():
            name, vectors = self.face.renderer.direction(direction)
        latent = self.latent + float(strength) * vectors
        if not math.isfinite(strength) or not latent.isfinite().all():
            raise ConfigError(f"a strength of {strength} is too much; pass a smaller number")
        return Edit(self, f"{name} {strength:+g}", latent)

    @property
    def unedited(self) -> Picture | None:
        """What this is an edit of; None of the face as inverted."""
        return None

    def paste_back(
        self, feather: float = FEATHER, mode: Mode = "auto", mask: Mask = "face"
    ) -> Image.Image:
        """The photo with this picture in the place of the face, at the photo's full size.

        Args:
            feather: width of the seam, as a share of the face's square.
            mode: "difference" adds to the photo what the edit changed, so that the photo keeps what the
                inversion lost; "replace" puts the picture in the place of the face; "auto" is the first for
                edits and the second for a face as it was inverted, in which nothing differs.
            mask: where a difference is added: in the "face", or in the whole "square" around it, hair
                included.

        Raises:
            ConfigError: the face was not aligned, so that it has no place in the photo; a difference of no
                edit.
        """
        _require_words(feather, mode, mask)
        face, before = self.face, self.unedited
        if mode == "replace" or (mode == "auto" and before is None):
            before = None
        elif before is None:
            raise ConfigError(
                "nothing differs in a face as it was inverted, so that this would be the photo; edit it, or "
                'pass mode="replace"'
            )
        if face.quad is None and before is None:
            raise ConfigError(
                'only an aligned face has a place in its photo; pass align="face" to the Inverter, or take '
                ".image, the picture itself"
            )
        photo = face.photo.decoded()
        # The picture of one that was not aligned is the whole photo, which has no seam.
        quad, feather = (whole(photo), 0.0) if face.quad is None else (face.quad, feather)
        points = face.landmarks if mask == "face" else None
        picture = np.asarray(self.image)
        drawn = None if before is None else np.asarray(before.image)
        try:
            if drawn is None:
                return Image.fromarray(paste(photo, picture, quad, feather))
            return Image.fromarray(paste_difference(photo, picture, drawn, quad, points, feather))
        except ValueError as error:
            raise ConfigError(f"{face.photo.name} cannot be pasted back: {error}") from None

    def unaligned(self, margin: int = 0) -> Image.Image:
        """The picture with the head as it was in the photo: its upright crop, as a StyleGAN3 draws it.

        Args:
            margin: pixels to draw beyond each side.

        Raises:
            ConfigError: the face was not aligned, or its model's generator is no StyleGAN3.
        """
        face = self.face
        if face.quad is None or face.landmarks is None:
            raise ConfigError(
                'only of an aligned face it is known how it lay; pass align="face" to the Inverter, or take '
                ".image, the picture itself"
            )
        place = {"key": face.photo.name, "quad": face.quad, "landmarks": face.landmarks}
        with naming_keywords():
            framing = Framing(is_unaligned=True, margin=margin)
            return face.renderer.framed(self.latent, framing, place, face.delta)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the picture (.png, .jpg, .webp) or the latent (.npy, .pt); returns where it is.

        Raises:
            ConfigError: another kind of file, or one that cannot be written.
        """
        return saved.save(path, self.latent, lambda: self.image)


@dataclass(frozen=True, eq=False, repr=False)
class Face(Picture):
    """One face of a photo, inverted: what a row of `restyle invert` holds, and what it shows."""

    photo: Photo
    renderer: Renderer
    number: int  # 0 is the largest face of the photo; -1 where no detector ran
    n_faces: int  # found in the photo; -1 likewise
    latents_by_step: Tensor  # [n_steps, n_styles, w_dim] float32, up to the step that is kept
    metrics: dict[str, list[float | None]]  # one value per step; None where not measured
    aligned: Image.Image  # what the encoder saw, at its input size
    quad: (
        np.ndarray | None
    )  # [4, 2] float32, photo pixels: upper left, lower left, lower right, upper right
    landmarks: np.ndarray | None  # [68, 2] float32, photo pixels
    detection_score: float | None
    best_step: int | None  # the step (from 1) of least mse
    precision: Precision  # that the latents were computed in
    is_refined: bool = False  # whether the last step is that of `refine`
    delta: Delta | None = None  # what the generator was changed by to draw this face, by `tune`

    @property
    def face(self) -> Face:
        return self

    @property
    def latent(self) -> Tensor:  # type: ignore[override]
        """[n_styles, w_dim] float32, of the step that is kept."""
        return self.latents_by_step[-1]

    @cached_property
    def images(self) -> list[Image.Image]:
        """The pictures of every step, at the generator's full size."""
        with naming_keywords():
            earlier = [self.renderer.picture(w, self.precision) for w in self.latents_by_step[:-1]]
        return [*earlier, self.image]

    @property
    def steps(self) -> list[str]:
        """What each step is called."""
        names = [f"step {i + 1}" for i in range(len(self.latents_by_step))]
        last = "refined" if self.is_refined else names[-1]
        return [*names[:-1], last if self.delta is None else f"{last}, tuned"]

    def tune(self, n_steps: int = 100) -> Face:
        """The same face, drawn by a generator that was tuned to it (pivotal tuning, arXiv 2106.05744).

        Its latent stays, so that edits act as before, on a picture that is closer to the photo. This face is
        drawn as before too. Seconds for the demo; a generator of 1024 px wants a GPU.

        Args:
            n_steps: updates of the generator's weights.

        Raises:
            ConfigError: fewer than one step.
        """
        if isinstance(n_steps, bool) or not isinstance(n_steps, int) or n_steps < 1:
            raise ConfigError(f"'n_steps' must be a whole number above 0, not {n_steps}")
        seen = np.array(self.aligned)
        if self.quad is not None:
            seen = cropped(self.photo.decoded(), self.quad, self.renderer.size)
        seed = seed_of(self.photo.name, self.number)
        return replace(self, delta=self.renderer.tune(self.latent, seen, n_steps, seed))

    def strip(self, cell: int = page.CELL) -> Image.Image:
        """The aligned input and the picture of every step beside each other, each ``cell`` pixels wide."""
        words = ["aligned input", *self.steps]
        return page.strip(words, [self.aligned, *self.images], cell)

    def __repr__(self) -> str:
        return f"Face({self._told()})"

    def _told(self) -> str:
        which = f", face {self.number + 1} of {self.n_faces}" if self.n_faces > 1 else ""
        last = ((name, values[-1]) for name, values in self.metrics.items() if values)
        told = (f", {name} {page.number(name, value)}" for name, value in last if value is not None)
        return self.photo.name + which + "".join(told)

    def _repr_html_(self) -> str:
        table = page.metrics_table(self.metrics, self.steps)
        return page.figure(self.strip(), self._told(), table)


@dataclass(frozen=True, eq=False, repr=False)
class Edit(Picture):
    """A face moved along a direction."""

    before: Picture  # what was edited: the face, or another edit of it
    name: str  # of the direction, and how far
    latent: Tensor  # [n_styles, w_dim] float32

    @property
    def face(self) -> Face:
        return self.before.face

    @property
    def unedited(self) -> Picture:
        return self.face

    @property
    def edits(self) -> list[Edit]:
        """The edits of the face, one after the other, up to this one."""
        return [*(self.before.edits if isinstance(self.before, Edit) else []), self]

    def strip(self, cell: int = page.CELL) -> Image.Image:
        """The aligned input, its inversion and each edit beside each other, each ``cell`` pixels wide."""
        words = ["aligned input", "inverted", *(edit.name for edit in self.edits)]
        pictures = [self.face.aligned, self.face.image, *(edit.image for edit in self.edits)]
        return page.strip(words, pictures, cell)

    def __repr__(self) -> str:
        return f"Edit({self._told()})"

    def _told(self) -> str:
        return ", ".join([self.face.photo.name, *(edit.name for edit in self.edits)])

    def _repr_html_(self) -> str:
        return page.figure(self.strip(), self._told())


class Faces(list[Face]):
    """The faces of one photo, largest first; a list that a notebook shows as pictures."""

    def __init__(self, faces: Sequence[Face] = (), name: str = "") -> None:
        super().__init__(faces)
        self.name = name

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        return Faces(found, self.name) if isinstance(index, slice) else found

    def __repr__(self) -> str:
        shown = list(map(repr, self[: page.MAX_SHOWN]))
        n_left = len(self) - len(shown)
        return f"[{', '.join(shown)}{f', and {n_left} more' if n_left else ''}]"

    def _repr_html_(self) -> str:
        shown = "".join(face._repr_html_() for face in self[: page.MAX_SHOWN])
        n_left = len(self) - page.MAX_SHOWN
        return shown + (f"<p>and {n_left} more faces</p>" if n_left > 0 else "")


def _require_words(feather: Any, mode: str, mask: str) -> None:
    """Raise a ConfigError where `Picture.paste_back` was given something else than it takes."""
    if isinstance(feather, str) or not 0 <= feather <= 0.5:
        raise ConfigError(f"'feather' must be 0 to 0.5, not {feather!r}")
    for name, given, words in (("mode", mode, Mode), ("mask", mask, Mask)):
        if given not in get_args(words):
            choices = " or ".join(map(repr, get_args(words)))
            raise ConfigError(f"{name!r} must be {choices}, not {given!r}")


def face_of(
    photo: Photo, renderer: Renderer, row: Row, aligned_u8: np.ndarray, is_refined: bool
) -> Face:
    """The result of a row that is ok.

    aligned_u8: [h, w, 3], which rows do not keep.
    is_refined: whether the last step is that of a refinement.
    """
    assert row.latents is not None, "it is ok"
    face = row.face
    quad = None if face.quad is None else face.quad.astype(np.float32)
    return Face(
        photo,
        renderer,
        face.face,
        face.n_faces,
        torch.from_numpy(row.latents),
        row.metrics,
        Image.fromarray(aligned_u8),
        quad,
        face.landmarks,
        face.detection_score,
        row.best_step,
        cast(Precision, row.precision),
        is_refined,
    )
