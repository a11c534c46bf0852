"""Samples -> batches of images: decoded or aligned side by side, in order, at most two batches ahead."""

from __future__ import annotations

import io
import os
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import ConfigError
from pipeline.faces.prepare import AlignSettings, align_sample
from pipeline.records import AlignedFace, Sample, Status
from pipeline.storage import redact
from pipeline.training.classes import Classes
from pipeline.training.stream import Position, SampleStream

# A stretch this long without one usable image is no accident.
MAX_FAILURES_IN_A_ROW = 10_000


@dataclass(frozen=True)
class Batch:
    """Images of one step of training."""

    images: Tensor  # [N, 3, h, w] float32 in [-1, 1]
    z: Tensor | None  # [N, z_dim] float32 of the samples' .npy members, where they are wanted
    keys: tuple[str, ...]
    position: Position  # of the stream, behind the last of them
    n_failed: int  # samples so far without a usable image, or of no class
    labels: Tensor | None = None  # [N, n] float32, one-hot, where classes are wanted


class Batches:
    """Iterates over batches, without end. Close it to end its workers."""

    def __init__(
        self,
        stream: SampleStream,
        batch_size: int,
        settings: AlignSettings,
        z_dim: int = 0,
        classes: Classes | None = None,
    ) -> None:
        """
        Args:
            z_dim: length of the vectors wanted from .npy members; 0: none is.
            classes: those of which samples are wanted; None: all are, whatever their class.
        """
        self._stream, self._batch_size, self._z_dim = stream, batch_size, z_dim
        self._classes = classes
        self._settings = settings
        self._pool = _pool(settings)
        self._n_failed = 0

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def __iter__(self) -> Iterator[Batch]:
        """
        Raises:
            ConfigError: no image for a long while, or no .npy member where z is wanted.
        """
        faces = self._faces()
        while True:
            taken = [next(faces) for _ in range(self._batch_size)]
            images = np.stack([face.image_u8 for _, face, _ in taken])  # type: ignore[misc]
            samples = [sample for sample, _, _ in taken]
            yield Batch(
                images=torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1,
                z=torch.stack([vector(s, self._z_dim) for s in samples]) if self._z_dim else None,
                keys=tuple(sample.key for sample in samples),
                position=taken[-1][2],
                n_failed=self._n_failed,
                labels=labels_of(samples, self._classes),
            )

    def _faces(self) -> Iterator[tuple[Sample, AlignedFace, Position]]:
        """The largest face, or the image, of each sample that has one and is of a wanted class."""
        waiting: deque[tuple[Sample, Position, Future[list[AlignedFace]]]] = deque()
        source = iter(self._stream)
        n_in_a_row = 0
        while True:
            while len(waiting) < 2 * self._batch_size:
                sample, position = next(source)
                waiting.append(
                    (sample, position, self._pool.submit(align_sample, sample, self._settings))
                )
            sample, position, future = waiting.popleft()
            face = _result(future)
            if (error := _unfit(sample, face, self._classes)) is None:
                n_in_a_row = 0
                yield sample, face, position
                continue
            self._n_failed, n_in_a_row = self._n_failed + 1, n_in_a_row + 1
            if n_in_a_row >= MAX_FAILURES_IN_A_ROW:
                raise ConfigError(
                    f"{n_in_a_row} samples in a row gave no image to train on; the last error: {error}"
                )


def _unfit(sample: Sample, face: AlignedFace, classes: Classes | None) -> str | None:
    """Why a sample is not trained on; None: it is."""
    if face.status != Status.OK:
        return f"{face.error} ({face.status})"
    if classes is not None and classes.label_of(sample) is None:
        return f"sample {sample.key} is of none of the classes by {classes.source}"
    return None


def labels_of(samples: Sequence[Sample], classes: Classes | None) -> Tensor | None:
    """One-hot labels [N, n] of samples that are each of one of these classes; None without classes."""
    if classes is None:
        return None
    labels = [classes.label_of(sample) for sample in samples]
    return torch.stack([label for label in labels if label is not None])


def _result(future: Future[list[AlignedFace]]) -> AlignedFace:
    try:
        return future.result()[0]
    except BrokenProcessPool:
        raise ConfigError(
            "a process that aligns faces died, perhaps because memory ran out; align the shards first "
            "(restyle invert --save-images), or give the machine more memory"
        ) from None


def _pool(settings: AlignSettings) -> Executor:
    """Threads decode, for Pillow lets go of the interpreter; dlib does not, so it gets processes."""
    # The CPUs of this process, shared among the workers on this machine (Ray Train says how many).
    n_cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    n = max(1, (n_cpus or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    if settings.mode == "none":
        return ThreadPoolExecutor(n)
    # Ctrl-C reaches them too, but how a training ends is for its own process to say.
    ignore = signal.SIGINT, signal.SIG_IGN
    context = get_context("spawn")
    return ProcessPoolExecutor(n, context, initializer=signal.signal, initargs=ignore)


def vector(sample: Sample, z_dim: int) -> Tensor:
    """The vector in a sample's .npy member, [z_dim]."""
    try:
        array = np.load(io.BytesIO(sample.fields["npy"]), allow_pickle=False)
        vector = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).reshape(-1)
    except KeyError:
        raise ConfigError(
            f"sample {sample.key} has no .npy member with its z, which distillation needs; "
            "`restyle portraits` writes such shards"
        ) from None
    except (ValueError, EOFError, OSError) as error:
        raise ConfigError(f"the .npy member of sample {sample.key} is damaged: {error}") from None
    if len(vector) != z_dim:
        raise ConfigError(
            f"the .npy member of sample {sample.key} holds {len(vector)} numbers, but the mapping takes "
            f"{z_dim}; pass shards from the same renderer"
        )
    return vector


def first_images(
    stream: SampleStream,
    n: int,
    settings: AlignSettings,
    z_dim: int = 0,
    classes: Classes | None = None,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """At most ``n`` images of one epoch in stored order, to validate on: [N, 3, h, w], their z and labels.

    Raises:
        ConfigError: there is none.
    """
    images, samples = [], []
    for sample in _one_epoch(stream):
        face = align_sample(sample, settings)[0]
        if face.image_u8 is not None and _unfit(sample, face, classes) is None:
            pixels = torch.tensor(face.image_u8)  # a copy: the array may be read-only
            images.append(pixels.permute(2, 0, 1).float() / 127.5 - 1)
            samples.append(sample)
        if len(images) == n:
            break
    if not images:
        share = stream.config.held_out_share
        of = "" if classes is None else f" of the classes by {classes.source}"
        reasons = "; ".join(stream.broken.values()) or f"they hold no image{of}"
        reasons += f", or none in that share; pass more than --held-out-share {share:g}" * (
            share > 0
        )
        raise ConfigError(
            f"nothing to validate on in {redact(stream.config.urls[0])} and its like: {reasons}"
        )
    z = torch.stack([vector(sample, z_dim) for sample in samples]) if z_dim else None
    return torch.stack(images), z, labels_of(samples, classes)


def _one_epoch(stream: SampleStream) -> Iterator[Sample]:
    for url in stream.config.urls:
        yield from stream.of_shard(url)
