"""An actor whose model sleeps where a GPU would compute, and one that tells how long a shard took.

For benchmarks/pipeline.py. Reading, alignment, chips, rows and Parquet are the real ones; what a GPU would do
takes time but no core, as on a GPU.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from pipeline.engine.quarantine import CrashRecorder
from pipeline.engine.stopwatch import Stopwatch
from pipeline.inversion.actor import ActorConfig, Inversion, InversionActor
from pipeline.inversion.batches import BatchInverter
from pipeline.inversion.computation import Computation, Computing, Given
from pipeline.inversion.device import Device
from pipeline.inversion.scoring import Scorer
from pipeline.latents import schema
from pipeline.records import AlignedFace, Report, Sample, Task

SHARD = "shard"  # in the seconds of a report: from a shard's first byte to its commit


@dataclass(frozen=True, kw_only=True)
class TimedConfig(ActorConfig):
    """Of an actor that is measured; its model is real, or sleeps."""

    sleep_ms: float | None = None  # for each image, in place of the model

    @property
    def worker_class(self) -> type[InversionActor]:
        return TimedActor if self.sleep_ms is None else StandInActor


class TimedActor(InversionActor):
    """The actor; where nothing overlaps, it also sends no photo away before the last batch is written."""

    def process(self, task: Task, *search: Any) -> Report:
        start = time.perf_counter()
        report = super().process(task, *search)
        seconds = {**report.seconds, SHARD: time.perf_counter() - start}
        return replace(report, seconds=seconds)

    @contextmanager
    def start(
        self, task: Task, stopwatch: Stopwatch, recorder: CrashRecorder | None
    ) -> Iterator[Inversion]:
        kind = Inversion if self.config.n_ahead else OneAfterTheOther
        yield kind(self, task, stopwatch, recorder)


class OneAfterTheOther(Inversion):
    """Photos are sent away a batch at a time, the next one when the last is written."""

    def aligned(self, samples: Iterator[Sample]) -> Iterator[AlignedFace]:
        while batch := list(islice(samples, self._actor.inverter.batch_size)):
            yield from super().aligned(iter(batch))


class StandInActor(TimedActor):
    """The same with the model asleep."""

    def load_models(self) -> None:
        super().load_models()
        config = self.config
        assert isinstance(config, TimedConfig)
        assert config.sleep_ms is not None
        model: Any = SHAPES
        self.model = model
        shape = model.generator.n_styles, model.generator.w_dim
        self.columns = schema.schema(config.run, *shape)
        scorer = Undescribed(config.run)
        self.inverter = BatchInverter(
            model, config.run, scorer, self.inverter.batch_size, self.host.tasks, config.n_ahead
        )
        asleep = Sleeping(model, config.run, scorer, Device(model.latent_avg.device))
        asleep.sleep_s = config.sleep_ms / 1000
        self.inverter.computation = asleep


# What the pipeline asks of a model, as those of FFHQ-1024 answer.
SHAPES = SimpleNamespace(
    input_size=(256, 256),
    latent_avg=torch.zeros(18, 512),
    generator=SimpleNamespace(n_styles=18, w_dim=512, class_number=int),
    execution=SimpleNamespace(used="asleep", reason=""),
    bound=None,
)


class Sleeping(Computation):
    """A time to sleep in place of all that the device does with a batch."""

    sleep_s = 0.0  # for each image

    def batch(self, given: Given) -> Computing:
        n, n_steps = len(given.pixels), self._run.steps
        began = self._device.mark()
        time.sleep(self.sleep_s * n)
        found = {
            "latents": SHAPES.latent_avg.expand(n_steps, n, -1, -1),
            "metrics": torch.zeros(len(self._run.metrics) - 1, n_steps, n),  # but identity
            "kept": torch.full((n,), n_steps),
            "is_finite": torch.ones(n, dtype=torch.bool),
            "thumbnails": given.pixels[None],  # as they came, for faces are looked for in them
        }
        ended = self._device.mark()
        return Computing(self._device.download(found), began, ended, ended, ended)


class Undescribed(Scorer):
    """Descriptors are the device's work, too; cutting chips is not."""

    def identities(self, chips: Tensor) -> Tensor:
        return torch.ones(len(chips))
