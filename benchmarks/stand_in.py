"""An actor whose model sleeps where a GPU would compute, and one that tells how long a shard took.

For benchmarks/pipeline.py. Reading, alignment, chips, rows and Parquet are the real ones; what a GPU would do
takes time but no core, as on a GPU.
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

from pipeline import schema
from pipeline.actor import ActorConfig, InversionActor
from pipeline.batches import BatchInverter, _Batch, _Inverting
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
        model: Any = SHAPES
        self._model = model
        shape = model.generator.n_styles, model.generator.w_dim
        self._columns = schema.schema(self._run, *shape)
        self._inverter = Sleeping(
            model,
            self._run,
            Undescribed(self._run),
            self._inverter.batch_size,
            self._config.n_ahead,
        )
        self._inverter.sleep_s = self._config.sleep_ms / 1000
        return name


# What the pipeline asks of a model, as those of FFHQ-1024 answer.
SHAPES = SimpleNamespace(
    input_size=(256, 256),
    latent_avg=torch.zeros(18, 512),
    generator=SimpleNamespace(n_styles=18, w_dim=512),
    execution=SimpleNamespace(used="asleep", reason=""),
)


class Sleeping(BatchInverter):
    """The stages, with a time to sleep in place of all that the device does with a batch."""

    sleep_s = 0.0  # for each image

    def _start(self, batch: _Batch) -> _Inverting:
        n, n_steps = len(batch.pixels), self._run.steps
        began = self._device.mark()
        time.sleep(self.sleep_s * n)
        found = {
            "latents": SHAPES.latent_avg.expand(n_steps, n, -1, -1),
            "metrics": torch.zeros(len(self._run.metrics) - 1, n_steps, n),  # but identity
            "is_finite": torch.ones(n, dtype=torch.bool),
            "thumbnails": batch.pixels[None],  # as they came, for faces are looked for in them
        }
        ended = self._device.mark()
        return _Inverting(batch, self._device.download(found), began, ended, ended)


class Undescribed(Scorer):
    """Descriptors are the device's work, too; cutting chips is not."""

    def identities(self, chips: Tensor) -> Tensor:
        return torch.ones(len(chips), chips.shape[1] - 1)
