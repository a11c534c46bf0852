"""One batch of aligned faces -> rows: inverted, scored, pictures kept where wanted."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import torch

from encoders import Bootstrap
from encoders.loop import Inversion
from encoders.restyle import ReStyle
from pipeline import feed, images
from pipeline.careful import Watch
from pipeline.chunks import Crash
from pipeline.config import ConfigError, RunConfig
from pipeline.records import AlignedFace, Status
from pipeline.schema import Row
from pipeline.scoring import Scorer
from pipeline.stopwatch import Stopwatch

# An aligned face's chip and the reconstructions that it is compared with, [h, w, 3] uint8 each.
Compared = tuple[np.ndarray, list[np.ndarray]]

# Batches whose chips may be under way on CPU workers while the next is inverted.
N_SCORING = 2


class OutOfMemory(ConfigError):
    """The batch does not fit; no retry will help."""


class BatchInverter:
    """Turns a stream of faces and failures into batches of rows, in order."""

    def __init__(
        self,
        model: ReStyle | Bootstrap,
        run: RunConfig,
        scorer: Scorer,
        batch_size: int,  # rows in a batch; failures among them are passed on
    ) -> None:
        self._model, self._run, self._batch_size = model, run, batch_size
        self._scorer = scorer

    def rows(
        self, faces: Iterator[AlignedFace], clock: Stopwatch, watch: Watch | None = None
    ) -> Iterator[list[Row]]:
        """Batches of rows; identities are filled in as chips come from the CPU workers.

        watch: of a shard that killed its workers; told of each step before it is taken.

        Raises:
            OutOfMemory: the batch is too large.
            ShardError: the cluster loses every node that a comparison is sent to.
        """
        scoring: deque[tuple[list[Row], list[Compared], Any]] = deque()
        while batch := list(islice(faces, self._batch_size)):
            if watch is not None:
                # Tried alone and forgotten: only whole batches add up in the same order as ever.
                for face in watch.suspected(batch):
                    watch.note(face.index, face.index)
                    self._invert([face], Stopwatch())
                watch.note(batch[0].index, batch[-1].index)
            rows, compared = self._invert(batch, clock)
            pictures = [drawn for _, drawn in compared]
            scoring.append((rows, compared, feed.CHIPS.begin(pictures) if compared else None))
            if len(scoring) > N_SCORING:
                yield self._with_identity(*scoring.popleft(), clock)
        while scoring:
            yield self._with_identity(*scoring.popleft(), clock)

    def _invert(
        self, batch: list[AlignedFace], clock: Stopwatch
    ) -> tuple[list[Row], list[Compared]]:
        """Rows of one batch, and the pictures whose identity is to be measured."""
        pixels = [face.image_u8 for face in batch if face.image_u8 is not None]
        # Rows may wait long for their row group to fill; the pixels must not wait with them.
        bare = [replace(face, image_u8=None, chip_u8=None) for face in batch]
        rows = [Row(face, face.status, face.error) for face in bare]
        if not pixels:
            return rows, []
        with clock("invert"):
            result = self._run_model(np.stack(pixels))
        usable = [row for row, face in zip(rows, batch, strict=True) if face.image_u8 is not None]
        with clock("score"):
            self._score(usable, pixels, result)
            chips = [face.chip_u8 for face in batch if face.image_u8 is not None]
            return rows, self._compared(usable, chips, result)

    def _run_model(self, pixels: np.ndarray) -> Inversion:
        tensor = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div(127.5).sub(1)
        try:
            result = self._model.invert(tensor, n_steps=self._run.steps)
            if result.latents.is_cuda:  # it only ordered the work; scoring would wait in its place
                torch.cuda.synchronize(result.latents.device)
            return result
        except RuntimeError as error:  # torch.OutOfMemoryError is one; on a CPU it is just that
            if isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error):
                raise OutOfMemory(
                    f"a batch of {len(pixels)} does not fit in memory; pass a smaller --batch-size "
                    f"than {self._batch_size}, or --precision bf16"
                ) from None
            raise

    def _score(self, rows: list[Row], pixels: list[np.ndarray], result: Inversion) -> None:
        """Fill in latents, metrics and pictures; what is not finite becomes a failure."""
        measured = self._scorer.measure(result)
        latents = result.latents.cpu().numpy()  # [n_steps, N, n_styles, w_dim]
        finite = np.isfinite(latents).all(axis=(0, 2, 3))
        finite &= (
            torch.isfinite(result.thumbnails).all(dim=4).all(dim=3).all(dim=2).all(0).cpu().numpy()
        )
        for i, row in enumerate(rows):
            if not finite[i]:
                row.status, row.error = Status.NOT_FINITE, "the model answered with NaN or infinity"
                continue
            row.latents = latents[:, i]
            row.metrics = measured[i]
            if self._run.save_images:
                row.aligned_image = images.encode_png(pixels[i])
                row.reconstruction = images.encode_jpeg(images.to_u8(result.images[i]))

    def _compared(
        self, rows: list[Row], chips: list[np.ndarray | None], result: Inversion
    ) -> list[Compared]:
        """Each row that came out: the chip of its aligned face and the steps that are measured."""
        steps = result.thumbnails if self._run.identity_steps == "all" else result.thumbnails[-1:]
        return [
            (chip, [images.to_u8(step[i]) for step in steps])
            for i, (row, chip) in enumerate(zip(rows, chips, strict=True))
            if row.status == Status.OK and chip is not None
        ]

    def _with_identity(
        self, rows: list[Row], compared: list[Compared], reference: Any, clock: Stopwatch
    ) -> list[Row]:
        if reference is None:
            return rows
        found, busy = feed.CHIPS.finish(reference, [drawn for _, drawn in compared])
        clock.add("score", busy)
        came_out = [row for row in rows if row.status == Status.OK]
        chips, others, cut = [], [], []
        for row, (chip, _), result in zip(came_out, compared, found, strict=True):
            if isinstance(result, Crash):
                _crash(row, result.error)
            else:
                chips.append(chip)
                others.append(result)
                cut.append(row)
        with clock("score"):
            for row, values in zip(cut, self._scorer.identities(chips, others), strict=True):
                row.metrics["identity"] = [None] * (self._run.steps - len(values)) + values
        return rows


def _crash(row: Row, error: str) -> None:
    """Nothing but OK carries results."""
    row.status, row.error = Status.CRASHED, error
    row.latents, row.metrics = None, {}
    row.aligned_image = row.reconstruction = None
