"""InversionActor: holds the models on one GPU (or none) and turns one shard into one Parquet file."""

from __future__ import annotations

import base64
import os
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch

from encoders import Bootstrap, bootstrap, load_inverter
from encoders.restyle import Inversion, ReStyle
from generators.checkpoint import CheckpointError, tensors_sha256
from pipeline import feed, images, reader, schema
from pipeline.config import ConfigError, RunConfig, fingerprint
from pipeline.feed import AlignSettings
from pipeline.records import AlignedFace, Sample, ShardReport, ShardTask, Status
from pipeline.schema import Row
from pipeline.scoring import Scorer
from pipeline.storage import public
from pipeline.writer import ShardWriter

# Batches whose identities may be under way on CPU workers while the next is inverted.
N_SCORING = 2


class OutOfMemory(ConfigError):
    """The batch does not fit; no retry will help."""


def load_model(run: RunConfig, device: str) -> ReStyle | Bootstrap:
    """The model of a run; two of them where the second goes on from the first.

    Raises:
        CheckpointError, ConfigError: a file cannot be used, or the two, or the steps, do not fit.
    """
    if run.then is None:
        model = load_inverter(run.model, run.generator, device, run.precision)
        if model.max_steps is not None and run.steps > model.max_steps:
            raise ConfigError(
                f"{run.model} is a single-pass encoder (pSp, e4e), which has one step, not "
                f"{run.steps}; pass --steps 1, or add a ReStyle encoder with --then"
            )
        return model
    first = load_inverter(run.model, None, device, run.precision)
    try:
        return bootstrap(first, load_inverter(run.then, run.generator, device, run.precision))
    except CheckpointError:
        raise
    except ValueError as error:
        raise ConfigError(f"--then {run.then} cannot follow {run.model}: {error}") from None


def checkpoint_hashes(model: ReStyle | Bootstrap) -> dict[str, str]:
    """Identity of the weights in use, whatever files they came in."""
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
    batch_size: int
    n_in_flight: int  # CPU tasks of one shard begun at once
    n_threads: int  # of torch on the CPU


class InversionActor:
    """One model, one shard at a time."""

    def __init__(self, config: ActorConfig) -> None:
        torch.set_num_threads(config.n_threads)
        self._config, self._run = config, config.run
        device = "cuda:0" if torch.cuda.is_available() else "cpu"
        run = config.run
        self._model = load_model(run, device)
        self._scorer = Scorer(run, device)
        for name, found in (checkpoint_hashes(self._model) | self._scorer.hashes()).items():
            if config.identity[name] != found:
                raise ConfigError(
                    f"a checkpoint of {run.model} holds other weights on this node ({name} differs); "
                    "copy the same files to every node"
                )
        self._by_dlib = "identity" in run.metrics and not self._scorer.measures("identity")
        generator = self._model.generator
        self._columns = schema.schema(run, generator.n_styles, generator.w_dim)
        self._n_rows = 0

    def n_rows(self) -> int:
        """Rows of the current shard so far, for the progress bar."""
        return self._n_rows

    def process(self, task: ShardTask) -> ShardReport:
        """Invert one shard and commit its file.

        Raises:
            ShardError: the shard cannot be read to its end; nothing was written.
            OutOfMemory: the batch is too large.
        """
        self._n_rows = 0
        seconds: dict[str, float] = defaultdict(float)
        counts: Counter[str] = Counter()
        read = _Reading(task.url, seconds)
        height, width = self._model.input_size
        settings = AlignSettings(self._run.align, self._run.faces, height, width)
        writer = ShardWriter(self._config.out, task.output, public(task.url), self._columns)
        try:
            faces = feed.aligned(read.samples(), settings, self._config.n_in_flight, seconds)
            seen = -1
            for rows in self._rows(faces, seconds):
                with _clock(seconds, "write"):
                    writer.add(rows)
                for row in rows:
                    # Samples come in order, so each new one is the next: none lost, none twice.
                    assert row.face.index in (seen, seen + 1), f"row of sample {row.face.index}"
                    seen = row.face.index
                counts.update(str(row.status) for row in rows)
                self._n_rows += len(rows)
            assert seen + 1 == read.n_samples, f"{read.n_samples} samples read, {seen + 1} written"
            with _clock(seconds, "write"):
                writer.commit(self._footer(task, read.n_samples, counts))
        except BaseException:
            writer.abandon()
            raise
        return ShardReport(task, read.n_samples, dict(counts), dict(seconds), _worker())

    def _rows(self, faces: Iterator[AlignedFace], seconds: dict[str, float]) -> Iterator[list[Row]]:
        """Batches of rows in order; identities are filled in as they come from the CPU workers."""
        scoring: deque[tuple[list[Row], Any]] = deque()
        while batch := list(islice(faces, self._config.batch_size)):
            scoring.append(self._invert(batch, seconds))
            if len(scoring) > N_SCORING:
                yield _with_identity(*scoring.popleft(), self._run, seconds)
        while scoring:
            yield _with_identity(*scoring.popleft(), self._run, seconds)

    def _invert(self, batch: list[AlignedFace], seconds: dict[str, float]) -> tuple[list[Row], Any]:
        """Rows of one batch, and a reference to the identities of those that came out."""
        usable = [face for face in batch if face.image_u8 is not None]
        inverted: dict[int, Row] = {}
        pairs: list[tuple[np.ndarray, np.ndarray]] = []
        if usable:
            with _clock(seconds, "invert"):
                result = self._run_model(usable)
            with _clock(seconds, "score"):
                for i, row in enumerate(self._score(usable, result)):
                    inverted[id(usable[i])] = row
                    if row.status == Status.OK and self._by_dlib:
                        pairs += self._identity_pairs(usable[i], result, i)
        rows = [inverted.get(id(f)) or Row(f, f.status, f.error) for f in batch]
        return rows, feed.identity(pairs) if pairs else None

    def _run_model(self, faces: list[AlignedFace]) -> Inversion:
        stacked = torch.from_numpy(np.stack([f.image_u8 for f in faces if f.image_u8 is not None]))
        pixels = stacked.permute(0, 3, 1, 2).float().div(127.5).sub(1)
        try:
            return self._model.invert(pixels, n_steps=self._run.steps)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if isinstance(error, torch.OutOfMemoryError) or "allocate" in str(error):
                raise OutOfMemory(
                    f"a batch of {len(faces)} does not fit in memory; pass a smaller --batch-size "
                    f"than {self._config.batch_size}, or --precision bf16"
                ) from None
            raise

    def _score(self, faces: list[AlignedFace], result: Inversion) -> list[Row]:
        measured = self._scorer.measure(result)
        latents = result.latents.cpu().numpy()  # [n_steps, N, n_styles, w_dim]
        finite = np.isfinite(latents).all(axis=(0, 2, 3))
        finite &= torch.isfinite(result.thumbnails).all(dim=(0, 2, 3, 4)).cpu().numpy()
        rows = []
        for i, face in enumerate(faces):
            if not finite[i]:
                error = "the model answered with NaN or infinity"
                rows.append(Row(face, Status.NOT_FINITE, error))
                continue
            rows.append(Row(face, Status.OK, None, latents[:, i], measured[i]))
            if self._run.save_images and face.image_u8 is not None:
                rows[-1].aligned_image = images.encode_png(face.image_u8)
                rows[-1].reconstruction = images.encode_jpeg(images.to_u8(result.images[i]))
        return rows

    def _identity_pairs(
        self, face: AlignedFace, result: Inversion, i: int
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        steps = result.thumbnails if self._run.identity_steps == "all" else result.thumbnails[-1:]
        assert face.image_u8 is not None
        return [(face.image_u8, images.to_u8(step[i])) for step in steps]

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
            "metric_protocol": f"float32 images in [-1, 1] at {width}x{height}; identity: cosine of "
            + ("dlib descriptors of 8-bit images" if self._by_dlib else "face embeddings"),
            "versions": dict(self._config.versions),
        }


def _worker() -> str:
    import ray

    context = ray.get_runtime_context()
    gpus = ",".join(map(str, context.get_accelerator_ids().get("GPU", []))) or "none"
    return f"{context.get_node_id()[:8]} gpu {gpus} pid {os.getpid()}"


def _with_identity(
    rows: list[Row], reference: Any, run: RunConfig, seconds: dict[str, float]
) -> list[Row]:
    if reference is None:
        return rows
    import ray

    cosines, busy = ray.get(reference)
    seconds["score"] += busy
    n_each = run.steps if run.identity_steps == "all" else 1
    values = iter(cosines)
    for row in rows:
        if row.status == Status.OK:
            measured = list(islice(values, n_each))
            row.metrics["identity"] = [None] * (run.steps - n_each) + measured
    return rows


class _Reading:
    """Counts the samples of a shard and the time that reading them took."""

    def __init__(self, url: str, seconds: dict[str, float]) -> None:
        self._url, self._seconds, self.n_samples = url, seconds, 0

    def samples(self) -> Iterator[Sample]:
        source = reader.samples(self._url)
        while True:
            with _clock(self._seconds, "read"):
                sample = next(source, None)
            if sample is None:
                return
            self.n_samples += 1
            yield sample


class _clock:
    """Adds the time of a block to one stage."""

    def __init__(self, seconds: dict[str, float], stage: str) -> None:
        self._seconds, self._stage = seconds, stage

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._seconds[self._stage] += time.perf_counter() - self._start
