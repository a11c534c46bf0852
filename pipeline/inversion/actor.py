"""InversionActor: holds the models on one GPU (or none) and turns a shard's photos into rows of latents."""

from __future__ import annotations

import base64
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from encoders.execution import CudaGraph, Execution
from encoders.refinement import Refiner
from pipeline.config import LABEL_PREFIX, Compile, RunConfig
from pipeline.engine.host import Host
from pipeline.engine.quarantine import CrashRecorder
from pipeline.engine.stopwatch import Stopwatch
from pipeline.engine.worker import Worker, WorkerConfig
from pipeline.errors import ConfigError
from pipeline.faces.prepare import AlignSettings
from pipeline.inversion import batch_size, clips, feed
from pipeline.inversion.batches import N_AHEAD, BatchInverter
from pipeline.inversion.scoring import Scorer
from pipeline.latents import schema
from pipeline.latents.schema import Row
from pipeline.models import bounds, checkpoint_hashes, footer_name, load_model
from pipeline.records import AlignedFace, Sample, Status, Task
from pipeline.shards import inputs, labels
from pipeline.shards.label_file import LabelTable
from pipeline.storage import redact
from pipeline.storage.pace import Limits
from pipeline.storage.stream import Meter


@dataclass(frozen=True, kw_only=True)
class ActorConfig(WorkerConfig):
    """What an inversion's actor is given."""

    run: RunConfig
    versions: Mapping[str, str]  # of the libraries that make the numbers
    batch_size: int | None = None  # None: what fits on the device
    n_ahead: int = N_AHEAD  # batches between two stages
    compile: Compile = "auto"
    limits: Limits = Limits()  # how slow the shards' sources may be
    labels: LabelTable | None = None  # of a file, by key
    is_long: bool = False  # whether each actor has so many images that compiling may pay

    @property
    def worker_class(self) -> type[InversionActor]:
        return InversionActor


class InversionActor(Worker):
    """One model, on one GPU or none."""

    def __init__(self, config: ActorConfig, host: Host | None = None) -> None:
        super().__init__(config, host)
        self.config = config
        self._current: Inversion | None = None

    def load_models(self) -> None:
        """Load the model, and whatever measures."""
        config, run = self.config, self.config.run
        if run.align == "face":
            feed.warm_up(config.n_in_flight, self.host.tasks)
        device = "cuda:0" if torch.cuda.is_available() else "cpu"
        model, self.scorer = load_model(run), Scorer(run, device)
        self._require_same_weights(checkpoint_hashes(model) | self.scorer.hashes())
        self.model = model.at(run.precision).to(device)
        generator = self.model.generator
        self.columns = schema.schema(run, generator.n_styles, generator.w_dim)
        n_images = config.batch_size or batch_size.ON_CPU
        refiner = None
        if run.refine:
            refiner = Refiner(self.model, run.refine, self.scorer.objectives(run))
        how = n_images, self.host.tasks, config.n_ahead, refiner
        self.inverter = BatchInverter(self.model, run, self.scorer, *how)
        if config.batch_size is None and device != "cpu":
            self.inverter.batch_size = batch_size.on_gpu(
                self.inverter.attempt, self.host.gpu_share()
            )
        # Only now: a search for the batch size must not compile for each size that it tries.
        self.model.execution = Execution(config.compile, config.is_long, self.inverter.batch_size)
        if refiner is not None and device != "cpu" and config.compile != "never":
            refiner.capture = CudaGraph

    def _require_same_weights(self, hashes: Mapping[str, str]) -> None:
        for name, value in hashes.items():
            if self.config.settings[name] != value:
                raise ConfigError(
                    f"a checkpoint of {self.config.run.model} holds different weights on this node ({name} "
                    "differs); copy the same files to every node"
                )

    @contextmanager
    def start(
        self, task: Task, stopwatch: Stopwatch, recorder: CrashRecorder | None
    ) -> Iterator[Inversion]:
        """One shard to be inverted; nothing is read yet."""
        self._current = Inversion(self, task, stopwatch, recorder)
        try:
            yield self._current
        finally:
            self._current = None

    def share_done(self) -> float:
        """Of the shard, by the bytes that were read and the rows that came of them."""
        current = self._current
        return 0.0 if current is None else current.share_done(self.n_rows())

    def execution(self) -> str:
        """How the model runs, where there was a choice: on a GPU, or where compiling was asked for."""
        execution = self.model.execution
        if self.config.compile == "auto" and not torch.cuda.is_available():
            return ""
        why = f" ({execution.reason})" if execution.reason else ""
        return execution.used.replace("eager", "step by step") + why


class Inversion:
    """One shard on its way through an actor: read, aligned, inverted."""

    def __init__(
        self,
        actor: InversionActor,
        task: Task,
        stopwatch: Stopwatch,
        recorder: CrashRecorder | None,
    ) -> None:
        self._actor, self._run = actor, actor.config.run
        self._stopwatch, self._recorder = stopwatch, recorder
        self._task = task
        of_class = actor.model.generator.class_number
        self._reading = _Reading(task.source, stopwatch, actor.config, of_class)
        self.shard, self.columns = redact(task.source), actor.columns

    @property
    def n_samples(self) -> int:
        return self._reading.n_samples

    def share_done(self, n_rows: int) -> float:
        """How much of the shard its first ``n_rows`` rows are; 0 where its length is not known."""
        # What was read ahead is not done: those rows are under way.
        return self._reading.meter.share * min(1.0, n_rows / max(1, self.n_samples))

    def batches(self) -> Generator[list[Row], None, None]:
        """Rows, batch by batch; each sample that was read has at least one."""
        samples = self._reading.samples()
        if self._recorder is not None:
            samples = self._recorder.samples(samples)
        last = -1
        inverter, clips_ = self._actor.inverter, self._run.clips
        with closing(
            inverter.rows(self.aligned(samples), self._stopwatch, self._recorder)
        ) as batches:
            done: Iterator[list[Row]] = batches
            if clips_ is not None:
                done = clips.smoothed(batches, clips_.latent_window, inverter.batch_size)
            for rows in done:
                self._reading.add_labels(rows)
                last = _require_consecutive(rows, last)
                yield rows
        if last + 1 != self.n_samples:
            raise AssertionError(f"{self.n_samples} samples were read, {last + 1} written")

    def aligned(self, samples: Iterator[Sample]) -> Iterator[AlignedFace]:
        """The faces of the samples, cropped by CPU workers; in order."""
        height, width = self._actor.model.input_size
        chips = self._actor.scorer.wants_chips
        settings = AlignSettings(self._run.align, self._run.faces, height, width, chips)
        how = self._actor.config.n_in_flight, self._stopwatch, self._actor.host.tasks
        if self._run.clips is not None and self._run.align == "face":
            faces = feed.followed(samples, settings, self._run.clips, *how)
        else:
            faces = feed.aligned(samples, settings, *how)
        return faces if self._run.class_label is None else map(self._reading.classified, faces)

    def footer(self) -> dict[str, Any]:
        """The model, and how it was run."""
        model, run = self._actor.model, self._run
        latent_avg = model.latent_avg.cpu().numpy().astype("<f4")
        height, width = model.input_size
        return {
            **{n: footer_name(getattr(run, n)) for n in ("model", "then", "generator")},
            **bounds(model),
            "shard": self.shard,
            **inputs.footer(self._task.source, self._task.version),
            "latent_avg": base64.b64encode(latent_avg.tobytes()).decode(),
            "latent_avg_shape": list(latent_avg.shape),
            "batch_size": self._actor.inverter.batch_size,
            "execution": model.execution.used,
            "metric_protocol": f"float32 images clamped to [-1, 1] at {width}x{height}; identity: "
            + (
                "1 - distance of dlib descriptors of 8-bit images, null without a face"
                if self._actor.scorer.wants_chips
                else "cosine of face embeddings"
            ),
            "versions": dict(self._actor.config.versions),
        }


def _require_consecutive(rows: list[Row], last: int) -> int:
    """Samples come in order, so each new one is the next: none lost, none twice. Returns the last."""
    for row in rows:
        if row.face.index not in (last, last + 1):
            raise AssertionError(f"a row of sample {row.face.index} after sample {last}")
        last = row.face.index
    return last


class _Reading:
    """Counts the samples of a shard and the time that reading them took; keeps labels for their rows."""

    def __init__(
        self,
        url: str,
        clock: Stopwatch,
        config: ActorConfig,
        class_number: Callable[
            [str], int
        ],  # of a class's name; raises a ValueError where there is none
    ) -> None:
        self._class_number = class_number
        self._url, self._clock, self._run, self.n_samples = url, clock, config.run, 0
        self._limits, self._table, self.meter = config.limits, config.labels, Meter()
        of_file = {} if self._table is None else self._table.types
        self._names = {n: type_ for n, type_ in self._run.labels.items() if n not in of_file}
        # Of samples on their way: not sent to aligners and back with the pixels.
        self._labels: dict[int, dict[str, Any]] = {}
        self._n_done = 0  # samples, whose labels are gone

    def samples(self) -> Iterator[Sample]:
        fields = frozenset(self._run.keep_fields)
        source = inputs.samples(self._url, fields, self._limits, self.meter)
        while True:
            with self._clock("read"):
                sample = next(source, None)
            if sample is None:
                return
            self.n_samples += 1
            has_labels = self._run.keep_fields or self._table is not None
            yield self._labelled(sample) if has_labels else sample

    def _labelled(self, sample: Sample) -> Sample:
        found, error = labels.values(sample, self._names)
        if self._table is not None:
            found |= self._table.of(sample.key)
        self._labels[sample.index] = found
        error = error or self._unknown_class(found)
        if error and sample.status == Status.OK:
            sample = replace(sample, image=None, status=Status.FIELD_ERROR, error=error)
        return replace(sample, fields={})

    def _class_of(self, found: Mapping[str, Any]) -> str | None:
        name = self._run.class_label
        return None if name is None else labels.class_name(found.get(LABEL_PREFIX + name))

    def _unknown_class(self, found: Mapping[str, Any]) -> str | None:
        """What is wrong with a class by labels; None: nothing, or there is none."""
        try:
            if (name := self._class_of(found)) is not None:
                self._class_number(name)
        except ValueError as error:
            return str(error)
        return None

    def classified(self, face: AlignedFace) -> AlignedFace:
        """A face with its sample's class; labels are kept until its row is done."""
        return replace(face, of_class=self._class_of(self._labels.get(face.index, {})))

    def add_labels(self, rows: list[Row]) -> None:
        """Give rows the labels of their samples; rows come in the order of samples."""
        for row in rows:
            row.labels = self._labels.get(row.face.index, {})
        # Those before the last sample are done: one by one, for the reading thread adds to them.
        while rows and self._n_done < rows[-1].face.index:
            self._labels.pop(self._n_done, None)
            self._n_done += 1
