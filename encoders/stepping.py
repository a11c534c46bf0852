"""The residual loop with as many steps as each image needs: one that is done makes room for the next at once.

A step is computed for a fixed number of places, so that it can be compiled and captured. Images take their
places as they come, each with a step count of its own, and leave when their error no longer falls; results
come out batch by batch, in order. What an image gets is what it gets from the same number of steps of the
plain loop, whoever its neighbours are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor

from encoders.loop import Inversion, Step, require_images
from encoders.metrics import distances
from encoders.restyle import ReStyle
from generators.precision import Precision, float32_products


@dataclass(frozen=True)
class Start:
    """A batch, and where its images begin."""

    images: Tensor  # [N, 3, h, w] in [-1, 1] of any size, on the model's device
    latents: Tensor | None = None  # [N, n_styles, w_dim]; None: the average


class Stepper:
    """Inverts streams of batches."""

    def __init__(
        self,
        model: ReStyle,
        n_places: int,  # images that take a step together
        most: int,  # steps of an image
        gain: float
        | None = None,  # of its error, in parts of it, below which it stops; None: never
        turn: AbstractContextManager | None = None,  # held while networks are told to run
    ) -> None:
        """Raises ValueError for numbers that are none of these."""
        if n_places < 1 or most < 1 or not (gain is None or 0 <= gain < 1):
            raise ValueError(
                f"{n_places} places, {most} steps and a gain of {gain} are no way to invert"
            )
        if model.max_steps is not None and most > model.max_steps:
            raise ValueError("this encoder sees no reconstruction (pSp, e4e), so it has one step")
        self.model, self.n_places, self.most, self.gain = model, n_places, most, gain
        self._turn = turn or nullcontext()

    def __call__(
        self, batches: Iterable[Start], precision: Precision | None = None
    ) -> Iterator[Inversion]:
        """The inversion of each batch, in order; `n_taken` says how many steps each image took.

        Batches are asked for when there is room.

        Args:
            precision: another one than the model's.

        Raises:
            ValueError: another shape, type or range of images.
            RuntimeError: out of memory, from torch.
        """
        with _plain():
            places = _Places(self.model, self.n_places, precision or self.model.precision)
        source, under_way = iter(batches), deque[_Batch]()
        is_over = False
        while True:
            while places.free and not is_over:
                batch = under_way[-1] if under_way and under_way[-1].n_waiting else None
                if batch is None:
                    start = next(source, None)
                    is_over = start is None
                    if start is None:
                        break
                    with self._turn, _plain():
                        batch = places.opened(start, self.most)
                    under_way.append(batch)
                with self._turn, _plain():
                    places.fill(batch)
            if not under_way:
                return
            with self._turn, _plain():
                done = places.step(self.most, self.gain)
            # The one question to the device in a step.
            is_done = done.tolist()
            with _plain():
                places.leave(is_done)
            while under_way and under_way[0].is_done:
                with _plain():
                    result = under_way.popleft().inversion()
                yield result


@contextmanager
def _plain() -> Iterator[None]:
    """Tensors that can be written to wherever they are, and of which no derivative is taken."""
    with torch.inference_mode(False), torch.no_grad():
        yield


@dataclass(eq=False)
class _Batch:
    """A batch on its way, and what was found of it."""

    target: Tensor  # [N, 3, h, w]
    begin: Tensor  # latents, [N, n_styles, w_dim]
    seen: Tensor  # their reconstructions, [N, 3, h, w]
    latents: Tensor  # [most, N, n_styles, w_dim]
    thumbnails: Tensor  # [most, N, 3, h, w]
    images: Tensor | None = None  # [N, 3, H, W]
    taken: dict[int, int] = field(default_factory=dict)  # steps of the images that are done
    n_placed: int = 0  # images that have been given a place

    @property
    def n_waiting(self) -> int:
        return len(self.target) - self.n_placed

    @property
    def is_done(self) -> bool:
        return len(self.taken) == len(self.target)

    def inversion(self) -> Inversion:
        """With each image's last step behind those that it took."""
        assert self.images is not None
        n = len(self.target)
        taken = torch.tensor([self.taken[i] for i in range(n)])
        steps = torch.arange(int(taken.max()))[:, None].clamp(max=taken - 1)
        chosen = steps.to(self.target.device), torch.arange(n, device=self.target.device)
        return Inversion(
            self.latents[chosen],
            self.images,
            self.thumbnails[chosen],
            self.target,
            taken.to(self.target.device),
        )


class _Places:
    """Where images take their steps."""

    def __init__(self, model: ReStyle, n: int, precision: Precision) -> None:
        self._model, self._precision = model, precision
        device, (h, w) = model.latent_avg.device, model.input_size
        self._target = torch.zeros(n, 3, h, w, device=device)
        self._seen = torch.zeros_like(self._target)
        self._latents = model.latent_avg.expand(n, -1, -1).clone()
        self._errors = torch.zeros(n, device=device)
        self._who: list[tuple[_Batch, int] | None] = [None] * n
        self._n_taken = [0] * n
        self._found: Step | None = None

    @property
    def free(self) -> list[int]:
        return [place for place, who in enumerate(self._who) if who is None]

    def opened(self, start: Start, most: int) -> _Batch:
        """A batch that is about to begin."""
        model, device = self._model, self._target.device
        require_images(start.images)
        with float32_products(self._precision):
            target = model.to_input(start.images.to(device, torch.float32)).clone()
            networks = model.networks(precision=self._precision)
            if start.latents is None:
                latents, seen = model.start(len(target), networks)
            else:
                latents = start.latents.to(model.latent_avg).clone()
                seen = model.to_input(model.draw(latents, networks))
            shape = most, len(target)
            return _Batch(
                target,
                latents,
                seen,
                target.new_empty(*shape, *latents.shape[1:]),
                target.new_empty(*shape, *target.shape[1:]),
            )

    def fill(self, batch: _Batch) -> None:
        """Give places to as many of a batch's images as there is room for."""
        free = self.free[: batch.n_waiting]
        rows = range(batch.n_placed, batch.n_placed + len(free))
        part = slice(rows.start, rows.stop)
        at = torch.tensor(free, device=self._target.device)
        self._target[at] = batch.target[part]
        self._seen[at] = batch.seen[part]
        self._latents[at] = batch.begin[part]
        self._errors[at] = torch.inf
        for place, row in zip(free, rows, strict=True):
            self._who[place], self._n_taken[place] = (batch, row), 0
        batch.n_placed += len(free)

    def step(self, most: int, gain: float | None) -> Tensor:
        """One step everywhere; whether each image is done, [n] bool."""
        given = self._model, self._target, self._seen, self._latents, self._precision
        found = self._model.execution.step(*given)
        errors = distances.mse(found.thumbnails.clamp(-1, 1), self._target)
        done = torch.zeros_like(errors, dtype=torch.bool)
        if gain is not None:
            # NaN is less than nothing: what is not finite is done.
            done = ~(errors < (1 - gain) * self._errors)
        self._latents, self._seen, self._errors = found.latents, found.thumbnails, errors
        self._found = found
        self._n_taken = [n + 1 for n in self._n_taken]
        self._keep(found)
        at_end = torch.tensor([n >= most for n in self._n_taken], device=done.device)
        return done | at_end

    def _keep(self, found: Step) -> None:
        device = self._target.device
        for batch, rows, places in self._by_batch(range(len(self._who))):
            steps = torch.tensor([self._n_taken[place] - 1 for place in places], device=device)
            at, of = torch.tensor(rows, device=device), torch.tensor(places, device=device)
            batch.latents[steps, at] = found.latents[of]
            batch.thumbnails[steps, at] = found.thumbnails[of]

    def leave(self, done: list[bool]) -> None:
        """Take those that are done from their places."""
        found = self._found
        assert found is not None
        going = [place for place, is_done in enumerate(done) if is_done]
        device = self._target.device
        for batch, rows, places in self._by_batch(going):
            if batch.images is None:
                shape = len(batch.target), *found.images.shape[1:]
                batch.images = found.images.new_empty(shape)
            at, of = torch.tensor(rows, device=device), torch.tensor(places, device=device)
            batch.images[at] = found.images[of]
            for row, place in zip(rows, places, strict=True):
                batch.taken[row] = self._n_taken[place]
                self._who[place] = None

    def _by_batch(self, places: Iterable[int]) -> list[tuple[_Batch, list[int], list[int]]]:
        """Rows and places of each batch that is there."""
        grouped: dict[_Batch, tuple[list[int], list[int]]] = {}
        for place in places:
            who = self._who[place]
            if who is not None:
                rows, of = grouped.setdefault(who[0], ([], []))
                rows.append(who[1])
                of.append(place)
        return [(batch, rows, of) for batch, (rows, of) in grouped.items()]
