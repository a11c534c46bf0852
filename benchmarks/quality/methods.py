"""The methods that are compared, each with its answers and its time an image in this run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from encoders import Inversion, ReStyle
from encoders.optimization import HYBRID, OptimizationConfig, hybrid, optimize
from encoders.refinement import Refiner, cache

Method = Callable[[Tensor], Inversion]

ENCODER_STEPS = 5  # before a hybrid begins to optimise
# Updates after which the slow methods are looked at on their way.
_MARKS = (1, 2, 5, 10, 20, 50, 100, 200, 300, 400)
_REPEATS = 3  # of what is quick; the best counts, for a shared machine only adds waiting


@dataclass(frozen=True)
class Result:
    """What a method made of the portraits, at each step that was kept; the last is its answer."""

    steps: tuple[int, ...]
    seconds: tuple[float, ...]  # an image, from the beginning up to each of these steps
    latents: Tensor  # [n_kept, N, n_styles, w_dim]
    images: Tensor  # [n_kept, N, 3, h, w] at the encoder's input size

    @property
    def answer(self) -> Tensor:
        """[N, 3, h, w]."""
        return self.images[-1]

    def until(self, step: int) -> Result:
        """The same method, stopped after a step that was kept."""
        n = self.steps.index(step) + 1
        return Result(self.steps[:n], self.seconds[:n], self.latents[:n], self.images[:n])


def encode(model: ReStyle, images: Tensor, batch: int, n_steps: int) -> Result:
    """The residual loop; each number of steps is timed on its own, on the first batch."""

    def of(n: int) -> Method:
        return lambda chunk: model.invert(chunk, n)

    _run(of(1), images[:batch], batch)  # warm
    seconds = [
        min(_run(of(n), images[:batch], batch)[1] for _ in range(_REPEATS))
        for n in range(1, n_steps + 1)
    ]
    found, _ = _run(of(n_steps), images, batch)
    return _result(range(1, n_steps + 1), seconds, found)


def search(model: ReStyle, images: Tensor, batch: int, n_steps: int) -> Result:
    """Latent optimisation in W+ from the average."""
    config = OptimizationConfig(n_steps=n_steps, keep_steps=_marks(n_steps))
    found, seconds = _run(lambda chunk: optimize(model, chunk, config), images, batch)
    steps = [*config.keep_steps, n_steps]
    return _result(steps, [seconds * step / n_steps for step in steps], found)


def refine(model: ReStyle, images: Tensor, batch: int, marks: Sequence[int]) -> Result:
    """The refinement of ``restyle invert --refine``, for several numbers of steps, each timed on its own."""
    gradients = cache.gradients(model)  # once per generator, not per image
    found = []
    for n in marks:
        refiner = Refiner(model, n, gradients=gradients)

        def method(chunk: Tensor, refiner: Refiner = refiner) -> Inversion:
            return refiner(model.invert(chunk, ENCODER_STEPS))

        found.append(_run(method, images, batch))
    last = [_last(each) for each, _ in found]
    joined = Inversion(
        latents=torch.stack([latents for latents, _ in last]),
        images=found[-1][0].images,
        thumbnails=torch.stack([thumbnails for _, thumbnails in last]),
        target=images,
    )
    return _result(marks, [seconds for _, seconds in found], joined)


def _last(found: Inversion) -> tuple[Tensor, Tensor]:
    return found.latents[-1], found.thumbnails[-1]


def optimize_on(model: ReStyle, images: Tensor, batch: int, n_steps: int, before: float) -> Result:
    """Latent optimisation from the encoder's answer, which took ``before`` seconds per image."""
    config = replace(HYBRID, n_steps=n_steps, keep_steps=_marks(n_steps))
    found, seconds = _run(lambda chunk: hybrid(model, chunk, ENCODER_STEPS, config), images, batch)
    steps = [*config.keep_steps, n_steps]
    return _result(steps, [before + (seconds - before) * step / n_steps for step in steps], found)


def _marks(n_steps: int) -> tuple[int, ...]:
    return tuple(mark for mark in _MARKS if mark < n_steps)


def best_seconds(
    work: Callable[[], object], device: torch.device, repeats: int = _REPEATS
) -> float:
    """Of a few runs, after one to warm up."""
    taken = []
    for _ in range(repeats + 1):
        _wait(device)
        began = time.perf_counter()
        work()
        _wait(device)
        taken.append(time.perf_counter() - began)
    return min(taken[1:])


def _run(method: Method, images: Tensor, batch: int) -> tuple[Inversion, float]:
    """The answers to all images, and the seconds per image that the quickest batch took."""
    found, seconds = [], []
    for chunk in images.split(batch):
        _wait(images.device)
        began = time.perf_counter()
        found.append(method(chunk))
        _wait(images.device)
        seconds.append((time.perf_counter() - began) / len(chunk))
    joined = Inversion(
        latents=torch.cat([each.latents for each in found], dim=1),
        images=found[-1].images,
        thumbnails=torch.cat([each.thumbnails for each in found], dim=1),
        target=images,
    )
    return joined, min(seconds)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _result(steps: Iterable[int], seconds: Iterable[float], found: Inversion) -> Result:
    return Result(tuple(steps), tuple(seconds), found.latents.cpu(), found.thumbnails.cpu())
