"""`Inverter`: photos in, faces and their latents out; in this process, with the functions of the workers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Literal, overload

import numpy as np
import torch

from encoders import Bootstrap, ReStyle, require_precision
from encoders.refinement import Refiner
from pipeline.config import RunConfig
from pipeline.engine.stopwatch import Stopwatch
from pipeline.engine.tasks import InThisProcess
from pipeline.errors import ConfigError
from pipeline.faces.prepare import AlignSettings
from pipeline.inversion.batch_size import ON_CPU
from pipeline.inversion.batches import N_AHEAD, BatchInverter
from pipeline.inversion.scoring import Scorer
from pipeline.inverter.face import Face, Faces, face_of
from pipeline.inverter.photo import Given, Photo, is_several, opened, unreadable
from pipeline.inverter.renderer import Renderer
from pipeline.inverter.settings import naming_keywords, run_config
from pipeline.latents.schema import Row
from pipeline.models import load_model
from pipeline.records import AlignedFace, Status

OnError = Literal["raise", "skip"]


class Inverter:
    """A model that inverts photos, loaded once: what a notebook wants. No Ray.

        inverter = Inverter("demo")
        found = inverter.invert("photo.jpg")        # the faces, largest first
        found[0].latent                             # [n_styles, w_dim]
        found[0].edit("demo:smile", 2.0).paste_back()

    The numbers are those of `restyle invert` with the same settings, whose defaults these are, but for
    ``faces``. Not for several threads at once. More photos than fit into memory are for `restyle invert`.

    Args:
        model: path of an encoder checkpoint, or "demo".
        device: "cpu", "cuda" or "cuda:1". None: a GPU where there is one.
        precision: of the networks: "fp32", "tf32", "bf16" or "fp16"; latents stay float32.
        steps: passes of the residual loop, or "auto".
        align: "face" finds and crops faces as FFHQ does, "none" takes pictures as they are.
        faces: "all" of a photo, which searches at every scale, or the "largest", which is found sooner.
        refine: steps of gradient descent after the loop: a number, "fast" or "best". The first time for a
            generator, loading takes seconds to minutes longer: what is found out about it is kept.
        bound: standard deviations of W that latents are softly kept within. None: as the checkpoint says.
        batch_size: faces inverted together.
        settings: any other field of `pipeline.config.RunConfig` that is not about how rows are stored, such
            as ``metrics`` or ``generator``.

    Raises:
        ConfigError, CheckpointError (both ValueErrors): in one sentence, what cannot be used.
    """

    def __init__(
        self,
        model: Any = "demo",
        device: str | torch.device | None = None,
        precision: str = "fp32",
        steps: int | str = 5,
        align: str = "face",
        faces: str = "all",
        refine: int | str = 0,
        bound: float | None = None,
        batch_size: int = ON_CPU,
        **settings: Any,
    ) -> None:
        with naming_keywords():
            self.config: RunConfig = run_config(
                model=model,
                precision=precision,
                steps=steps,
                align=align,
                faces=faces,
                refine=refine,
                bound=bound,
                **settings,
            )
            self.device = _device(device, precision)
            if not isinstance(batch_size, int) or batch_size < 1:
                raise ConfigError(f"'batch_size' must be a whole number above 0, not {batch_size}")
            loaded = load_model(self.config)
            self._scorer = Scorer(self.config, str(self.device))
        self.model: ReStyle | Bootstrap = loaded.at(self.config.precision).to(self.device)
        self.batch_size = batch_size
        self._refiner: Refiner | None = None
        if self.config.refine:
            objectives = self._scorer.objectives(self.config)
            self._refiner = Refiner(self.model, self.config.refine, objectives)
        self._renderer = Renderer(self.model)
        if self.config.align == "face" or self._scorer.wants_chips:
            _load_detector()

    def __repr__(self) -> str:
        config = self.config
        size = "{1} x {0}".format(*self.model.input_size)
        steps = "auto" if config.auto else config.steps
        return (
            f"Inverter({config.model!r}, {self.device}, {config.precision}, steps={steps}, "
            f"align={config.align!r}, sees {size} px, draws {self.model.generator.resolution} px)"
        )

    @overload
    def invert(self, photo: Given, on_error: OnError = "raise") -> Faces: ...

    @overload
    def invert(
        self, photo: list[Any] | tuple[Any, ...] | Iterator[Any], on_error: OnError = "raise"
    ) -> list[Faces]: ...

    def invert(self, photo: Any, on_error: OnError = "raise") -> Faces | list[Faces]:
        """The faces of a photo, largest first; of several photos a list of these, inverted in batches.

        Args:
            photo: a path (local or remote), a file or its bytes, a PIL image, an array [H, W, 3] of uint8
                RGB; or a list of these.
            on_error: "skip" makes a warning and an empty list of a photo that cannot be inverted.

        Raises:
            ConfigError: no such file, no image, a damaged one, no face in it, or a model whose answer is
                not finite: one sentence that says what to do.
            OutOfMemory: the batch does not fit.
        """
        if on_error not in ("raise", "skip"):
            raise ConfigError(f"'on_error' must be 'raise' or 'skip', not {on_error!r}")
        several = is_several(photo)
        given = list(photo) if several else [photo]
        with naming_keywords():
            found = self._invert(given, several, on_error)
        return found if several else found[0]

    def _invert(self, given: Sequence[Any], several: bool, on_error: OnError) -> list[Faces]:
        results = [Faces() for _ in given]
        seen: dict[int, _Seen] = {}
        # One photo is not worth the threads that keep a device busy with many.
        n_ahead = N_AHEAD if len(given) > 1 else 0
        batches = BatchInverter(
            self.model,
            self.config,
            self._scorer,
            self.batch_size,
            InThisProcess(),
            n_ahead,
            self._refiner,
        )
        faces = self._aligned(given, several, on_error, seen)
        with closing(batches.rows(faces, Stopwatch())) as rows:
            for row in (row for batch in rows for row in batch):
                one = seen[row.face.index]
                if row.status == Status.OK:
                    results[row.face.index].append(self._result(one, row))
                else:
                    one.failures.append(row)
        for i, one in seen.items():
            results[i].name = one.photo.name
            for n, row in enumerate(one.failures):
                error = _error(one.photo, row.status, row.error)
                if not results[i] and n == 0 and on_error == "raise":
                    raise error
                _warn(error)
        return results

    def _aligned(
        self, given: Sequence[Any], several: bool, on_error: OnError, seen: dict[int, _Seen]
    ) -> Iterator[AlignedFace]:
        """The faces of all photos; what was seen of each photo is noted."""
        height, width = self.model.input_size
        settings = AlignSettings(
            self.config.align, self.config.faces, height, width, self._scorer.wants_chips
        )
        for i, each in enumerate(given):
            try:
                photo = opened(each, f"photo {i + 1}" if several else "the photo")
                faces = photo.aligned(i, settings)
                usable = [face for face in faces if face.image_u8 is not None]
                if not usable:
                    raise _error(photo, faces[0].status, faces[0].error)
            except ConfigError as error:
                if on_error == "raise":
                    raise
                _warn(error)
                continue
            crops = {face.face: face.image_u8 for face in usable if face.image_u8 is not None}
            failures = [Row(f, f.status, f.error) for f in faces if f.image_u8 is None]
            seen[i] = _Seen(photo, crops, failures)
            yield from usable

    def _result(self, one: _Seen, row: Row) -> Face:
        config = self.config
        assert row.latents is not None, "of a row that is ok"
        # The best of as many steps as an image needs may be any of them.
        is_refined = config.refine > 0 and (
            config.latents != "best" or (not config.auto and len(row.latents) == config.n_entries)
        )
        return face_of(one.photo, self._renderer, row, one.crops[row.face.face], is_refined)


@dataclass(frozen=True)
class _Seen:
    """A photo whose faces are being inverted."""

    photo: Photo
    crops: dict[int, np.ndarray]  # by the number of the face
    failures: list[Row] = field(default_factory=list)


def _device(wanted: str | torch.device | None, precision: str) -> torch.device:
    name = wanted or ("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        raise ConfigError(f"'device' must be 'cpu', 'cuda' or 'cuda:N', not {name!r}") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"'device' must be 'cpu', 'cuda' or 'cuda:N', not {name!r}")
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= n_gpus:
        there = f"only {n_gpus} of them" if n_gpus else "no GPU that torch can use"
        raise ConfigError(f"there is no {device}: this machine has {there}; leave out 'device'")
    try:
        require_precision(precision, device)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    return device


def _load_detector() -> None:
    from pipeline.faces import detection

    try:
        detection.load()
    except RuntimeError as error:
        raise ConfigError(f"faces are found by dlib: {error}") from None


def _error(photo: Photo, status: Status, why: str | None) -> ConfigError:
    name = photo.name
    if status == Status.DECODE_ERROR:
        return unreadable(name, str(why))
    if status == Status.NO_FACE:
        return ConfigError(
            f"no face was found in {name}; pass a photo that shows one from the front, or take pictures as "
            'they are with Inverter(..., align="none")'
        )
    if status == Status.ALIGN_ERROR:
        return ConfigError(f"the face in {name} cannot be cropped ({why}); pass another photo")
    if status == Status.NOT_FINITE:
        return ConfigError(f'{name} cannot be inverted: {why}; pass precision="fp32"')
    return ConfigError(f"{name} cannot be inverted: {why}; pass another photo")


def _warn(error: ConfigError) -> None:
    warnings.warn(str(error), RuntimeWarning, stacklevel=4)
