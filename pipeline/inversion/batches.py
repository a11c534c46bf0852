"""From aligned faces to rows in four stages, each in a thread of its own, so that the device never waits.

1. Faces are assembled to batches, in memory that the device copies from by itself.
2. The device inverts and measures a batch, and is given the next one meanwhile.
3. What it found is fetched: rows, whose chips (what dlib's identity sees) are cut by CPU workers.
4. The chips come back, identity is measured, and the rows are done, in order.

Between two stages wait a few batches at most (`pipeline.inversion.prefetch`).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from encoders import Bootstrap
from encoders.metrics.dlib_file import CHIP_SIDE
from encoders.refinement import Refiner
from encoders.restyle import ReStyle
from pipeline.config import RunConfig
from pipeline.engine.quarantine import CrashRecorder
from pipeline.engine.stopwatch import WAIT, Stopwatch
from pipeline.engine.tasks import Crash, Tasks
from pipeline.faces import images
from pipeline.inversion.batch_size import too_large
from pipeline.inversion.computation import IMAGE_AXIS, Computation, Computing, Given
from pipeline.inversion.device import Device
from pipeline.inversion.feed import Chips
from pipeline.inversion.prefetch import ahead
from pipeline.inversion.scoring import Scorer
from pipeline.latents.schema import Row
from pipeline.models import is_out_of_memory
from pipeline.records import AlignedFace, Status

T = TypeVar("T")

N_AHEAD = 2  # batches that wait between two stages
# And for their chips: CPU workers come to them after what was sent to be aligned before.
N_CUTTING = 8


@dataclass(frozen=True)
class _Batch:
    """Rows that go through the stages together."""

    faces: list[AlignedFace]  # and failures, which are passed on
    given: Given  # what there is of the faces


@dataclass(frozen=True)
class _Inverting:
    """A batch that the device has been given."""

    batch: _Batch
    computing: Computing


@dataclass(frozen=True)
class _Fetched:
    """Rows that are done but for their identities."""

    rows: list[Row]
    came_out: list[
        tuple[Row, np.ndarray]
    ]  # those whose identity is measured, and the chips of their faces
    chips: Chips  # of their reconstructions


class BatchInverter:
    """Turns a stream of faces and failures into batches of rows, in order."""

    def __init__(
        self,
        model: ReStyle | Bootstrap,
        run: RunConfig,
        scorer: Scorer,
        batch_size: int,  # rows in a batch; failures among them are passed on
        tasks: Tasks,  # where the chips are cut that dlib's identity sees
        n_ahead: int = N_AHEAD,  # 0: one stage after the other, in one thread
        refiner: Refiner | None = None,
    ) -> None:
        self._tasks = tasks
        self._model, self._run, self._scorer = model, run, scorer
        self.batch_size, self._n_ahead = batch_size, n_ahead
        self._device = Device(model.latent_avg.device)
        self.computation = Computation(model, run, scorer, self._device, refiner)

    def rows(
        self, faces: Iterator[AlignedFace], clock: Stopwatch, recorder: CrashRecorder | None = None
    ) -> Generator[list[Row]]:
        """Batches of rows. To be closed where it is left early, which ends its threads.

        watch: of a shard that killed its workers; told of each step before it is taken. Then one stage
            waits for the other, so that nothing else is under way.

        Raises:
            OutOfMemory: the batch is too large.
            ShardError: the cluster loses every node that a comparison is sent to.
        """
        n = self._n_ahead if recorder is None else 0
        with (
            closing(ahead(self._batches(faces), n)) as batches,
            closing(ahead(self._inverting(batches, clock, recorder), n)) as inverting,
            closing(ahead(self._fetched(inverting, clock), N_CUTTING if n else 0)) as fetched,
            closing(ahead(self._identified(fetched, clock), n)) as rows,
        ):
            yield from rows

    # The first stage.

    def _batches(self, faces: Iterator[AlignedFace]) -> Iterator[_Batch]:
        while batch := list(islice(faces, self.batch_size)):
            yield self._batch(batch)

    def _batch(self, faces: list[AlignedFace]) -> _Batch:
        usable = [face for face in faces if face.image_u8 is not None]
        pixels = self._pixels(len(usable))
        if usable:
            crops = [face.image_u8 for face in usable if face.image_u8 is not None]
            np.stack(crops, out=pixels.numpy())
        start = self.computation.z_of(usable), self.computation.classes_of(usable)
        return _Batch(faces, Given(pixels, *start))

    def _pixels(self, n: int) -> Tensor:
        return self._device.host((n, *self._model.input_size, 3), torch.uint8)

    # The second, the device's.

    def _inverting(
        self, batches: Iterator[_Batch], clock: Stopwatch, recorder: CrashRecorder | None
    ) -> Iterator[_Batch | _Inverting]:
        torch.set_num_threads(torch.get_num_threads())  # which each thread has to be told
        waiting = self._waiting(batches, clock)
        if self.computation.is_stepwise and recorder is None:
            yield from self._streaming(waiting)
            return
        for batch in waiting:
            if recorder is not None:
                # Tried alone and forgotten: only whole batches add up in the same order as ever.
                for face in recorder.suspected(batch.faces):
                    recorder.note(face.index, face.index)
                    alone = self._fetch(self._invert(self._batch([face])), Stopwatch())
                    self._identify(alone, Stopwatch())
                recorder.note(batch.faces[0].index, batch.faces[-1].index)
            yield self._invert(batch) if len(batch.given.pixels) else batch

    def _streaming(self, batches: Iterator[_Batch]) -> Iterator[_Batch | _Inverting]:
        """The same where the images of several batches are under way together."""
        under_way = deque[_Batch]()

        def given() -> Iterator[Given]:
            for batch in batches:
                under_way.append(batch)
                if len(batch.given.pixels):
                    yield batch.given

        results = self.computation.stream(given(), self.batch_size)
        while True:
            found = self._fitting(self.batch_size, lambda: next(results, None))
            while under_way and (found is None or not len(under_way[0].given.pixels)):
                yield under_way.popleft()
            if found is None:
                return
            yield _Inverting(under_way.popleft(), found)

    def _waiting(self, batches: Iterator[_Batch], clock: Stopwatch) -> Iterator[_Batch]:
        """The batches; the time in which the device had nothing to do is added to the stage "wait"."""
        while True:
            start = time.perf_counter()
            batch = next(batches, None)
            clock.add(WAIT, self._device.idle_since(start))
            if batch is None:
                return
            yield batch

    def _invert(self, batch: _Batch) -> _Inverting:
        """Have the device invert and measure a batch, and begin to fetch what it finds."""
        return self._fitting(
            len(batch.given.pixels),
            lambda: _Inverting(batch, self.computation.batch(batch.given)),
        )

    def _fitting(self, n: int, work: Callable[[], T]) -> T:
        """What the device makes of ``n`` images; OutOfMemory where it has no room for them."""
        try:
            return work()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        # Outside of the handler, whose error would keep the tensors of the attempt.
        raise too_large(n, self.attempt)

    def attempt(self, n: int) -> None:
        """Do with ``n`` grey pictures what is done with a batch; RuntimeError where they do not fit."""
        z = self.computation.z_of([AlignedFace(0, "", Status.OK)] * n)
        given = Given(self._pixels(n).fill_(127), z)
        if "thumbnails" in self.computation.batch(given).results.wait():
            n_pairs = n * (self._run.n_entries if self._run.identity_steps == "all" else 1)
            grey = np.full((n_pairs, 2, CHIP_SIDE, CHIP_SIDE, 3), 127, np.uint8)
            self._device.beside(self._scorer.identities, grey)

    # The third.

    def _fetched(
        self, inverting: Iterator[_Batch | _Inverting], clock: Stopwatch
    ) -> Iterator[_Fetched]:
        for one in inverting:
            yield self._fetch(one, clock)

    def _fetch(self, one: _Batch | _Inverting, clock: Stopwatch) -> _Fetched:
        """Rows of a batch, once the device has inverted it; begins to cut their chips."""
        batch = one if isinstance(one, _Batch) else one.batch
        # Rows may wait long for their row group to fill; the pixels must not wait with them.
        bare = [replace(face, image_u8=None, chip_u8=None) for face in batch.faces]
        rows = [Row(face, face.status, face.error) for face in bare]
        if isinstance(one, _Batch):
            return _Fetched(rows, [], Chips([], self._tasks))
        arrays = one.computing.results.wait()
        precisions = self._done_again(batch.given, arrays)
        self._add_times(one.computing, clock)
        pixels = batch.given.pixels.numpy()
        metrics = self._scorer.by_image(arrays["metrics"], arrays["kept"])
        best = self._scorer.best(arrays["metrics"], arrays["kept"])
        came_out, drawn = [], []
        both = zip(rows, batch.faces, strict=True)
        usable = [(row, face) for row, face in both if face.image_u8 is not None]
        for i, (row, face) in enumerate(usable):
            if not arrays["is_finite"][i]:
                row.fail(Status.NOT_FINITE, "the model answered with NaN or infinity")
                continue
            row.precision = precisions[i]
            # A copy: what the device copied to is wanted again before the row group is full.
            n_kept = arrays["kept"][i]
            row.latents, row.metrics = arrays["latents"][:n_kept, i].copy(), metrics[i]
            row.best_step, row.is_worse = best[i]
            if face.chip_u8 is not None:
                came_out.append((row, face.chip_u8))
                drawn.append(list(arrays["thumbnails"][:n_kept, i]))
            if self._run.save_images:
                with clock("write"):
                    row.aligned_image = images.encode_png(pixels[i])
                    row.reconstruction = images.encode_jpeg(arrays["images"][i])
        return _Fetched(rows, came_out, Chips(drawn, self._tasks))

    def _add_times(self, computing: Computing, clock: Stopwatch) -> None:
        between = self._device.seconds
        clock.add("invert", between(computing.began, computing.inverted) - computing.idle_s)
        if self.computation.refiner is not None:
            clock.add("refine", between(computing.inverted, computing.refined))
        clock.add("score", between(computing.refined, computing.ended))

    def _done_again(self, given: Given, arrays: dict[str, np.ndarray]) -> list[str]:
        """What float16 cannot hold is computed in float32 and put in its place; each image's precision."""
        precisions = [str(self._run.precision)] * len(given.pixels)
        overflown = np.flatnonzero(~arrays["is_finite"])
        if self._run.precision != "fp16" or not len(overflown):
            return precisions
        for i in overflown:  # one by one: in float32 a batch might not fit
            z = None if given.z is None else given.z[i : i + 1]
            exact = self.computation.exactly(Given(given.pixels[i : i + 1], z)).wait()
            for name, axis in IMAGE_AXIS.items():
                if name in arrays:
                    np.moveaxis(arrays[name], axis, 0)[i] = np.moveaxis(exact[name], axis, 0)[0]
            precisions[i] = "fp32"
        return precisions

    # The fourth.

    def _identified(self, fetched: Iterator[_Fetched], clock: Stopwatch) -> Iterator[list[Row]]:
        torch.set_num_threads(torch.get_num_threads())
        for one in fetched:
            self._identify(one, clock)
            yield one.rows

    def _identify(self, one: _Fetched, clock: Stopwatch) -> None:
        """Fill in the identities, once the chips are there."""
        if not one.came_out:
            return
        others, busy = one.chips.cut()
        clock.add("identity", busy)
        measured, pairs = [], []
        for (row, chip), of_steps in zip(one.came_out, others, strict=True):
            if isinstance(of_steps, Crash):
                row.fail(Status.CRASHED, of_steps.error)
                continue
            # None where no face can be seen in the reconstruction, or the step was not asked for.
            assert row.latents is not None
            values: list[float | None] = [None] * len(row.latents)
            row.metrics["identity"] = values
            for step, other in enumerate(of_steps, start=len(values) - len(of_steps)):
                if other is not None:
                    measured.append((values, step))
                    pairs.append([chip, other])
        if not measured:
            return
        array = np.array(pairs)
        identities, busy = self._fitting(
            len(array), lambda: self._device.beside(self._scorer.identities, array)
        )
        clock.add("identity", busy)
        for (values, step), identity in zip(measured, identities.tolist(), strict=True):
            values[step] = identity
