"""InversionActor: holds the models on one GPU (or none) and turns one shard into one Parquet file."""

from __future__ import annotations

import base64
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import torch

from encoders import Bootstrap, bootstrap, load_inverter
from encoders.execution import Execution
from encoders.restyle import ReStyle
from generators.checkpoint import CheckpointError, tensors_sha256
from pipeline import batch_size, feed, labels, reader, schema, storage
from pipeline.batches import N_AHEAD, BatchInverter
from pipeline.careful import Care, Watch
from pipeline.cluster import gpu_share, worker_name
from pipeline.config import Compile, RunConfig, fingerprint
from pipeline.errors import ConfigError, OutOfMemory, ShardError
from pipeline.feed import AlignSettings
from pipeline.records import AlignedFace, Sample, ShardReport, ShardTask, Status
from pipeline.schema import Row
from pipeline.scoring import Scorer
from pipeline.stopwatch import Stopwatch
from pipeline.storage import public
from pipeline.telemetry import WorkerMetrics
from pipeline.writer import ShardWriter


def load_model(run: RunConfig) -> ReStyle | Bootstrap:
    """The model of a run on the CPU in float32; two of them where the second goes on from the first.

    Raises:
        CheckpointError, ConfigError: a file cannot be used, or the two, or the steps, do not fit.
    """
    if run.then is None:
        model = load_inverter(run.model, run.generator, compile="never")
        if model.max_steps is not None and run.steps > model.max_steps:
            raise ConfigError(
                f"{run.model} is a single-pass encoder (pSp, e4e), which has one step, not "
                f"{run.steps}; pass --steps 1, or add a ReStyle encoder with --then"
            )
        return model
    first = load_inverter(run.model, compile="never")
    try:
        return bootstrap(first, load_inverter(run.then, run.generator, compile="never"))
    except CheckpointError:
        raise
    except ValueError as error:
        raise ConfigError(f"--then {run.then} cannot follow {run.model}: {error}") from None


def checkpoint_hashes(model: ReStyle | Bootstrap) -> dict[str, str]:
    """Identity of the weights in use, whatever files they came in; of a model in float32."""
    if isinstance(model, Bootstrap):
        first, second = checkpoint_hashes(model.first), checkpoint_hashes(model.second)
        return second | {f"first_{name}": found for name, found in first.items()}
    encoder = {**model.encoder.state_dict(), "latent_avg": model.latent_avg}
    return {
        "encoder_sha256": tensors_sha256(encoder),
        "generator_sha256": tensors_sha256(model.generator.state_dict()),
    }


@dataclass(frozen=True)
class ActorConfig:
    """What an actor is told besides the run's settings."""

    run: RunConfig
    out: str  # folder or object-store prefix
    identity: Mapping[str, Any]  # settings and checkpoint hashes
    versions: Mapping[str, str]  # of the libraries that make the numbers
    batch_size: int | None  # None: what fits on the device
    n_in_flight: int  # CPU tasks of one shard begun at once
    n_threads: int  # of torch on the CPU
    n_ahead: int = N_AHEAD  # batches between two stages
    compile: Compile = "auto"
    is_long: bool = False  # whether each actor has so many images that compiling may pay

    @property
    def actor_class(self) -> type[InversionActor]:
        return InversionActor


class InversionActor:
    """One model, one shard at a time. Nothing is loaded before :meth:`load`."""

    def __init__(self, config: ActorConfig) -> None:
        self._config, self._run = config, config.run
        self._n_rows = 0

    def load(self) -> str:
        """Load the models. Apart from the constructor, whose errors Ray reports as a death.

        Returns the worker's name: its node, GPU and process.

        Raises:
            ConfigError, CheckpointError: this node has another file than the driver, or none.
        """
        torch.set_num_threads(self._config.n_threads)
        run = self._run
        if run.align == "face":
            feed.warm_up(self._config.n_in_flight)
        device = "cuda:0" if torch.cuda.is_available() else "cpu"
        model, scorer = load_model(run), Scorer(run, device)
        for name, found in (checkpoint_hashes(model) | scorer.hashes()).items():
            if self._config.identity[name] != found:
                raise ConfigError(
                    f"a checkpoint of {run.model} holds other weights on this node ({name} differs); "
                    "copy the same files to every node"
                )
        self._model = model.at(run.precision).to(device)
        self._columns = schema.schema(run, model.generator.n_styles, model.generator.w_dim)
        asked = self._config.batch_size or batch_size.ON_CPU
        self._inverter = BatchInverter(self._model, run, scorer, asked, self._config.n_ahead)
        if self._config.batch_size is None and device != "cpu":
            self._inverter.batch_size = batch_size.on_gpu(self._inverter.attempt, gpu_share())
        # Only now: a search for the batch size must not compile for each size that it tries.
        how = self._config.compile, self._config.is_long, self._inverter.batch_size
        self._model.execution = Execution(*how)
        self._by_dlib = scorer.wants_chips
        self._metrics = WorkerMetrics()
        return self.name()

    def name(self) -> str:
        """Node, GPU and process."""
        return worker_name()

    def n_rows(self) -> int:
        """Rows of the current shard so far, for the progress bar."""
        return self._n_rows

    def process(self, task: ShardTask, care: Care | None = None) -> ShardReport:
        """Invert one shard and commit its file.

        care: of a shard that workers died at: what is known of the sample that did it.

        Raises:
            ShardError: the shard cannot be read to its end, or its file cannot be written; nothing was.
            OutOfMemory: the batch is too large.
        """
        start = time.monotonic()
        try:
            report = self._process(task, care)
        except OutOfMemory:
            raise
        except ConfigError as error:
            # A store that does not answer one node now may answer the next one later.
            raise ShardError(str(error)) from None
        except RuntimeError:
            _require_device()
            raise
        self._metrics.add(report, time.monotonic() - start)
        return report

    def _process(self, task: ShardTask, care: Care | None) -> ShardReport:
        self._n_rows = 0
        clock, counts, seen = Stopwatch(), Counter[str](), -1
        read = _Reading(task.url, clock, self._run)
        watch = None if care is None else Watch(self._config.out, task.output, care)
        samples = read.samples() if watch is None else watch.samples(read.samples())
        writer = ShardWriter(self._config.out, task.output, public(task.url), self._columns)
        try:
            faces = self._aligned(samples, clock)
            with closing(self._inverter.rows(faces, clock, watch)) as batches:
                for rows in batches:
                    read.add_labels(rows)
                    with clock("write"):
                        writer.add(rows)
                    seen = _require_consecutive(rows, seen)
                    counts.update(str(row.status) for row in rows)
                    self._n_rows += len(rows)
            if seen + 1 != read.n_samples:
                raise AssertionError(f"{read.n_samples} samples were read, {seen + 1} written")
            if storage.identity(task.url, is_patient=True) != task.identity:
                raise ShardError(f"{public(task.url)} has changed since the run began; run again")
            if counts[Status.CRASHED]:
                _require_no_worse(writer.standing(), counts)
            with clock("write"):
                writer.commit(self._footer(task, read.n_samples, counts))
        except BaseException:
            writer.abandon()
            raise
        return ShardReport(
            task,
            read.n_samples,
            dict(counts),
            dict(clock.seconds),
            worker_name(),
            self._how_it_ran(),
        )

    def _how_it_ran(self) -> str:
        """The model, where there was a choice: on a GPU, or where compiling was asked for."""
        execution = self._model.execution
        if self._config.compile == "auto" and not torch.cuda.is_available():
            return ""
        why = f" ({execution.reason})" if execution.reason else ""
        return execution.used.replace("eager", "step by step") + why

    def _aligned(self, samples: Iterator[Sample], clock: Stopwatch) -> Iterator[AlignedFace]:
        height, width = self._model.input_size
        settings = AlignSettings(self._run.align, self._run.faces, height, width, self._by_dlib)
        return feed.aligned(samples, settings, self._config.n_in_flight, clock)

    def _footer(self, task: ShardTask, n_samples: int, counts: Counter[str]) -> dict[str, Any]:
        """What a reader of the file alone needs to know. No clock, no host: the same for a rerun."""
        latent_avg = self._model.latent_avg.cpu().numpy().astype("<f4")
        height, width = self._model.input_size
        return {
            "fingerprint": fingerprint(self._config.identity),
            "identity": dict(self._config.identity),
            "model": self._run.model,
            "then": self._run.then,
            "generator": self._run.generator,
            "shard": public(task.url),
            "input_identity": task.identity,
            "n_samples": n_samples,
            "n_by_status": dict(sorted(counts.items())),
            "latent_avg": base64.b64encode(latent_avg.tobytes()).decode(),
            "latent_avg_shape": list(latent_avg.shape),
            "batch_size": self._inverter.batch_size,
            "execution": self._model.execution.used,
            "metric_protocol": f"float32 images in [-1, 1] at {width}x{height}; identity: cosine of "
            + ("dlib descriptors of 8-bit images" if self._by_dlib else "face embeddings"),
            "versions": dict(self._config.versions),
        }


def _require_consecutive(rows: list[Row], seen: int) -> int:
    """Samples come in order, so each new one is the next: none lost, none twice. Returns the last."""
    for row in rows:
        if row.face.index not in (seen, seen + 1):
            raise AssertionError(f"a row of sample {row.face.index} after sample {seen}")
        seen = row.face.index
    return seen


def _require_no_worse(before: Mapping[str, Any], counts: Mapping[str, int]) -> None:
    """A retry on a machine that is short of memory must not replace good rows by crashed ones."""
    n_before = before.get("n_by_status", {}).get(Status.CRASHED, 0)
    if before and counts[Status.CRASHED] > n_before:
        raise ShardError(
            f"{counts[Status.CRASHED]} samples crashed, {n_before} in the file that is there, which stays"
        )


def _require_device() -> None:
    """End this process where its GPU stays broken: after a CUDA error every later call fails as well."""
    if torch.cuda.is_available():
        try:
            torch.cuda.synchronize()
        except RuntimeError:
            os._exit(1)  # the driver sees a death, and starts another process


class _Reading:
    """Counts the samples of a shard and the time that reading them took; keeps labels for their rows."""

    def __init__(self, url: str, clock: Stopwatch, run: RunConfig) -> None:
        self._url, self._clock, self._run, self.n_samples = url, clock, run, 0
        # Of samples on their way: not sent to aligners and back with the pixels.
        self._labels: dict[int, dict[str, Any]] = {}
        self._n_done = 0  # samples, whose labels are gone

    def samples(self) -> Iterator[Sample]:
        source = reader.samples(self._url, frozenset(self._run.keep_fields))
        while True:
            with self._clock("read"):
                sample = next(source, None)
            if sample is None:
                return
            self.n_samples += 1
            yield self._labelled(sample) if self._run.keep_fields else sample

    def _labelled(self, sample: Sample) -> Sample:
        self._labels[sample.index], error = labels.values(sample, self._run.labels)
        if error and sample.status == Status.OK:
            sample = replace(sample, image=None, status=Status.FIELD_ERROR, error=error)
        return replace(sample, fields={})

    def add_labels(self, rows: list[Row]) -> None:
        """Give rows the labels of their samples; rows come in the order of samples."""
        for row in rows:
            row.labels = self._labels.get(row.face.index, {})
        # Those before the last sample are done: one by one, for the reading thread adds to them.
        while rows and self._n_done < rows[-1].face.index:
            self._labels.pop(self._n_done, None)
            self._n_done += 1
