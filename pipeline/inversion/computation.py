"""What the device does for a batch: steps, refinement, measurement; given to it without waiting."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from encoders import Bootstrap
from encoders.loop import Inversion
from encoders.refinement import Refiner
from encoders.restyle import ReStyle, from_pixels
from encoders.stepping import Start, Stepper
from generators import StyleBasedGenerator
from generators.precision import Precision, float32_products
from pipeline.config import AUTO_GAIN, RunConfig
from pipeline.engine.stopwatch import WAIT, Stopwatch
from pipeline.inversion.device import Device, Download, images_to_u8
from pipeline.inversion.scoring import Scorer
from pipeline.records import AlignedFace


@dataclass(frozen=True)
class Given:
    """The pictures of a batch."""

    pixels: Tensor  # [N, h, w, 3] uint8, in memory that the device copies from
    z: Tensor | None = None  # random vectors where latents begin, [N, z_dim]; None: the average
    classes: Tensor | None = None  # of those, [N] int64, where the generator draws by class


@dataclass(frozen=True)
class Computing:
    """What the device has been told to compute; times are marks of the device (`Device.mark`)."""

    results: Download  # N images each, at the axis of `IMAGE_AXIS`
    began: Any
    inverted: Any
    refined: Any
    ended: Any
    idle_s: float = 0.0  # between the first two, in which the next batches were waited for


# Of what a batch is fetched as, the axis that counts its images.
IMAGE_AXIS = {
    "latents": 1,
    "metrics": 2,
    "kept": 0,
    "is_finite": 0,
    "thumbnails": 1,
    "images": 0,
}


class Computation:
    """A model's work on batches, as a run wants it."""

    def __init__(
        self,
        model: ReStyle | Bootstrap,
        run: RunConfig,
        scorer: Scorer,
        device: Device,
        refiner: Refiner | None = None,
    ) -> None:
        self._model, self._run, self._scorer = model, run, scorer
        self._device, self.refiner = device, refiner

    @property
    def is_stepwise(self) -> bool:
        """Whether images take steps of their own, so that batches are not computed one by one."""
        return self._run.auto or self._run.init == "random"

    def z_of(self, faces: Sequence[AlignedFace]) -> Tensor | None:
        """Where the loop begins for these faces: of each the same, in whatever shard and run; [N, z_dim]."""
        if self._run.init != "random" or not faces:
            return None
        dim = self._model.generator.config.z_dim
        return torch.stack([z_of(face, dim) for face in faces])

    def classes_of(self, faces: Sequence[AlignedFace]) -> Tensor | None:
        """The classes of these beginnings, [N]: by label, else drawn, of each the same in every run."""
        if self._run.init != "random" or not faces:
            return None
        generator = self._model.generator
        if not generator.c_dim:
            return None
        return torch.tensor([class_of(face, generator) for face in faces])

    @torch.inference_mode()
    def batch(self, given: Given) -> Computing:
        """One batch by itself."""
        if self.is_stepwise:
            [computing] = self.stream([given], len(given.pixels))
            return computing
        with self._device.turn:
            began = self._device.mark()
            pixels = self._device.upload(given.pixels)
            found = self._model.invert_pixels(pixels, n_steps=self._run.steps)
            return self._rest(found, began)

    def stream(self, batches: Iterable[Given], n_places: int) -> Iterator[Computing]:
        """Batches whose images take steps of their own, ``n_places`` at a time; in order."""
        began, waited = self._device.mark(), Stopwatch()
        source = (self._start(given) for given in waited.each(WAIT, batches))
        found = self._stepper(n_places)(source)
        while True:
            with torch.inference_mode():
                result = next(found, None)
                if result is None:
                    return
                with self._device.turn:
                    computing = self._rest(result, began)
            yield replace(computing, idle_s=waited.seconds.pop(WAIT, 0.0))
            # The time of images that wait for others of their batch is that of the next one.
            began = computing.ended

    @torch.inference_mode()
    def exactly(self, given: Given) -> Download:
        """The same in float32, whatever the precision."""
        if self.is_stepwise:
            [found] = self._stepper(len(given.pixels))([self._start(given)], "fp32")
        with self._device.turn:
            if not self.is_stepwise:
                images = from_pixels(self._device.upload(given.pixels))
                found = self._model.invert_exactly(images, self._run.steps)
            if self.refiner is not None:
                found = self.refiner(found, "fp32")
            return self._device.download(self._tensors(found, "fp32"))

    def _stepper(self, n_places: int) -> Stepper:
        gain = AUTO_GAIN if self._run.auto else None
        assert isinstance(self._model, ReStyle), "a run refuses --then beside it"
        return Stepper(self._model, n_places, self._run.steps, gain, self._device.turn)

    def _start(self, given: Given) -> Start:
        with torch.inference_mode(), self._device.turn:
            images = from_pixels(self._device.upload(given.pixels))
            if given.z is None:
                return Start(images)
            generator = self._model.generator
            with float32_products():
                labels = given.classes
                if labels is not None:
                    labels = F.one_hot(labels.to(images.device), generator.c_dim)
                w = generator.mapping(given.z.to(images.device), labels=labels)
            return Start(images, w[:, None].expand(-1, generator.n_styles, -1))

    def _rest(self, found: Inversion, began: Any) -> Computing:
        inverted = self._device.mark()
        if self.refiner is not None:
            found = self.refiner(found)
        refined = self._device.mark()
        tensors = self._tensors(found)
        ended = self._device.mark()
        return Computing(self._device.download(tensors), began, inverted, refined, ended)

    def _tensors(self, found: Inversion, precision: Precision | None = None) -> dict[str, Tensor]:
        """What rows are made of, on the device."""
        n_entries = self._run.n_entries
        draw: Any = self._model.draw_kept
        if precision is not None:
            draw = partial(draw, precision=precision)
        metrics, kept = self._scorer.measure(found)
        latents, thumbnails = found.latents, found.thumbnails
        tensors = {
            "latents": _as_long(latents, n_entries),  # [n_entries, N, n_styles, w_dim]
            "metrics": _as_long(metrics, n_entries, dim=1),  # [n_metrics, n_entries, N]
            "kept": kept,  # [N], the step whose latent is the row's
            "is_finite": latents.isfinite().all(dim=(0, 2, 3))
            & thumbnails.isfinite().all(dim=(0, 2, 3, 4)),
        }
        chosen = (kept - 1, torch.arange(len(kept), device=kept.device))
        if self._scorer.wants_chips:  # [1 or n_entries, N, h, w, 3]
            every = self._run.identity_steps == "all"
            seen = _as_long(thumbnails, n_entries) if every else thumbnails[chosen][None]
            tensors["thumbnails"] = images_to_u8(seen)
        if self._run.save_images:  # [N, H, W, 3]
            # Drawn once more, for the images of every step would take much memory.
            images = draw(latents[chosen]) if self._run.latents == "best" else found.images
            tensors["images"] = images_to_u8(images)
        return tensors


def z_of(face: AlignedFace, dim: int) -> Tensor:
    """A random vector [dim] that is a face's own: by its key, and its number in the image."""
    return torch.randn(dim, generator=torch.Generator().manual_seed(_seed_of(face)))


def class_of(face: AlignedFace, generator: StyleBasedGenerator) -> int:
    """Which entry of a label stands for a face's class; one drawn for it where its labels say none."""
    if face.of_class is not None:
        return generator.class_number(face.of_class)
    return _seed_of(face, "class of ") % generator.c_dim


def _seed_of(face: AlignedFace, what: str = "") -> int:
    name = f"{what}{face.key}/{face.face}"
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:7], "big")


def _as_long(steps: Tensor, n: int, dim: int = 0) -> Tensor:
    """With the last step again behind the others, up to ``n``: every batch has the same shape."""
    missing = n - steps.shape[dim]
    if not missing:
        return steps
    last = steps.narrow(dim, steps.shape[dim] - 1, 1)
    return torch.cat([steps, *[last] * missing], dim)
