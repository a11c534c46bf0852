"""An actor whose model sleeps where a GPU would compute, and one that tells how long a shard took.

For benchmarks/pipeline.py. Reading, alignment, chips, rows and Parquet are the real ones; what a GPU would do,
takes time and no core, as on a GPU.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from encoders.restyle import Inversion
from pipeline import schema
from pipeline.actor import ActorConfig, InversionActor
from pipeline.batches import BatchInverter
from pipeline.records import AlignedFace, Sample, ShardReport, ShardTask
from pipeline.scoring import Scorer
from pipeline.stopwatch import Stopwatch

SHARD = "shard"  # in the seconds of a report: from a shard's first byte to its commit


@dataclass(frozen=True)
class TimedConfig(ActorConfig):
    """Of an actor that is measured; its model is real, or sleeps."""

    sleep_ms: float | None = None  # for each image, in place of the model

    @property
    def actor_class(self) -> type[InversionActor]:
        return TimedActor if self.sleep_ms is None else StandInActor


class TimedActor(InversionActor):
    """The actor; where nothing overlaps, it also sends no photo away before the last batch is written."""

    def process(self, task: ShardTask, *care: Any) -> ShardReport:
        start = time.perf_counter()
        report = super().process(task, *care)
        seconds = {**report.seconds, SHARD: time.perf_counter() - start}
        return replace(report, seconds=seconds)

    def _aligned(self, samples: Iterator[Sample], clock: Stopwatch) -> Iterator[AlignedFace]:
        if self._config.n_ahead:
            yield from super()._aligned(samples, clock)
            return
        while batch := list(islice(samples, self._inverter.batch_size)):
            yield from super()._aligned(iter(batch), clock)


class StandInActor(TimedActor):
    """The same with the model asleep."""

    def load(self) -> str:
        name = super().load()
        assert isinstance(self._config, TimedConfig)
        assert self._config.sleep_ms is not None
        model: Any = StandIn(self._config.sleep_ms / 1000)
        self._model = model
        shape = model.generator.n_styles, model.generator.w_dim
        self._columns = schema.schema(self._run, *shape)
        size, n_ahead = self._inverter.batch_size, self._config.n_ahead
        self._inverter = Sleeping(model, self._run, Undescribed(self._run), size, n_ahead)
        return name


class StandIn:
    """In the shapes of FFHQ-1024: answers with the images that it is given, after a time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds  # for each image
        self.input_size = (256, 256)
        self.generator = SimpleNamespace(n_styles=18, w_dim=512)
        self.latent_avg = torch.zeros(18, 512)

    def invert(self, images: Tensor, n_steps: int) -> Inversion:
        time.sleep(self._seconds * len(images))
        latents = self.latent_avg.expand(n_steps, len(images), -1, -1)
        return Inversion(latents, images, images.expand(n_steps, *images.shape), images)


class Sleeping(BatchInverter):
    """The stages, without the device's arithmetic on its results."""

    def _found(self, result: Inversion) -> dict[str, Tensor]:
        n_steps, n = result.latents.shape[:2]
        pixels = result.target.permute(0, 2, 3, 1)
        return {
            "latents": result.latents,
            "metrics": torch.zeros(len(self._run.metrics) - 1, n_steps, n),
            "is_finite": torch.ones(n, dtype=torch.bool),
            # As they came, for faces are looked for in them.
            "thumbnails": pixels.add(1).mul(127.5).round().to(torch.uint8)[None],
        }


class Undescribed(Scorer):
    """Descriptors are the device's work, too; cutting chips is not."""

    def identities(self, chips: Tensor) -> Tensor:
        return torch.ones(len(chips), chips.shape[1] - 1)
