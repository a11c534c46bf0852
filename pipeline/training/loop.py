"""The training loop: the same for every trainer, on one process or on each worker of a group."""

from __future__ import annotations

import math
import time
from contextlib import closing
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, distributed

from generators.training import parallel
from generators.training.protocol import NotFinite
from pipeline.errors import ConfigError
from pipeline.faces.prepare import AlignSettings
from pipeline.training import memory, rendered, state
from pipeline.training.batches import Batch, Batches, first_images
from pipeline.training.config import LoopConfig, Trainer
from pipeline.training.interruption import Interruption
from pipeline.training.pace import Pace
from pipeline.training.record import NullLogger, TrainingLogger
from pipeline.training.rendered import RenderedBatches, RenderedStream
from pipeline.training.stream import Position, SampleStream

LAST, BEST, BAD_BATCH = "last.safetensors", "best.safetensors", "not_finite.{}.pt"
TELL_WITHOUT_GAIN = 3  # validations

# Images that are never trained on, with their z and their labels, where those are wanted.
HeldOut = tuple[Tensor, Tensor | None, Tensor | None]


def train(trainer: Trainer, config: LoopConfig, notes: str) -> None:
    """Train to the end, from wherever the last run in ``config.out`` stopped.

    Leaves ``last.safetensors`` and ``best.safetensors`` (by the validation's score), ready for use. A
    signal (Ctrl-C, SIGTERM) to a process that trains alone is obeyed after a checkpoint.

    Args:
        notes: one line for people, into the files: how they came about.

    Raises:
        ConfigError: shards without images, or a state that cannot be read.
        NotFinite: a loss was no number; the batch is in ``not_finite.<worker>.pt``.
    """
    folder = Path(config.out)
    settings = AlignSettings(config.align, "largest", *trainer.input_size)
    held_out = _held_out(config, settings, trainer.device)
    progress = _resume(trainer, folder)
    n_before = progress.global_step
    if not n_before:  # a run that goes on has shown that it fits
        memory.require(trainer.need(), torch.device(trainer.device))
    stream, batches = _source(config, settings, trainer.device, progress.position)
    broken: set[str] = set()  # broken shards
    with closing(batches), closing(_record(folder, config, progress, trainer)) as record:

        def save() -> None:
            if progress.global_step > progress.saved_step:
                _save(trainer, folder, progress, notes)
            if n := progress.saved_step:
                record.note(f"the training is saved after {n:,} of {config.n_batches:,} batches")

        with Interruption(save) as interruption:
            for batch in islice(batches, config.n_batches - n_before):
                with interruption.held_back():
                    begun = time.monotonic()
                    terms = _step(trainer, batch, folder)
                    progress.global_step += 1
                    progress.position = batch.position
                    if progress.global_step == n_before + 1:
                        seconds = time.monotonic() - begun
                        record.note(memory.first_batch(seconds, torch.device(trainer.device)))
                    record.batch(progress.global_step, terms, _counts(batch, stream))
                    for url in stream.broken.keys() - broken:
                        record.note(f"{stream.broken[url]}; the samples before it are used")
                        broken.add(url)
                    _after(trainer, held_out, folder, progress, record, config, notes)


def _after(
    trainer: Trainer,
    held_out: HeldOut,
    folder: Path,
    progress: _Progress,
    record: TrainingLogger | NullLogger,
    config: LoopConfig,
    notes: str,
) -> None:
    """What is due behind a batch: a validation, a checkpoint."""
    if _is_due(progress, config, config.validate_every):
        _validate(trainer, held_out, folder, progress, record, notes)
    saves = _is_due(progress, config, config.checkpoint_every)
    if saves or _is_time(progress, config, torch.device(trainer.device)):
        _save(trainer, folder, progress, notes)


def _held_out(config: LoopConfig, settings: AlignSettings, device: torch.device) -> HeldOut:
    if config.rendered is not None:
        shape = config.n_held_out, settings.height, config.z_dim
        return *rendered.held_out(config.rendered, *shape, device), None
    stream = SampleStream(config.held_out_stream())
    return first_images(stream, config.n_held_out, settings, config.z_dim, config.classes)


def _source(
    config: LoopConfig, settings: AlignSettings, device: torch.device, begin: Position
) -> tuple[SampleStream, Batches | RenderedBatches]:
    """The samples of this worker from a place on, and their batches."""
    of = config.stream(config.shards, parallel.rank(), parallel.n_workers())
    if config.rendered is None:
        stream = SampleStream(of, begin)
        wanted = config.z_dim, config.classes
        return stream, Batches(stream, config.batch_size, settings, *wanted)
    drawn = RenderedStream(of, begin)
    shape = config.batch_size, settings.height, config.z_dim
    return drawn, RenderedBatches(drawn, *shape, device)


@dataclass
class _Progress:
    """How far a worker is."""

    global_step: int = 0  # batches
    position: Position = Position()
    best: float = math.inf  # score of the best validation so far
    best_step: int = 0  # the batch behind which that was
    n_without_gain: int = 0  # validations since then
    saved_step: int = 0  # of the last checkpoint
    saved_at: float = field(default_factory=time.monotonic)


def _is_due(progress: _Progress, config: LoopConfig, every: int) -> bool:
    """Whether what comes every so many batches, and at the end, comes now."""
    return progress.global_step == config.n_batches or progress.global_step % every == 0


def _is_time(progress: _Progress, config: LoopConfig, device: torch.device) -> bool:
    """Whether the last checkpoint is long ago, by the first worker's clock."""
    seconds = time.monotonic() - progress.saved_at
    return parallel.first_says(seconds >= 60 * config.checkpoint_minutes, device)


def _validate(
    trainer: Trainer,
    held_out: HeldOut,
    folder: Path,
    progress: _Progress,
    record: TrainingLogger | NullLogger,
    notes: str,
) -> None:
    """The first worker measures, tells, and keeps the best; the others wait."""
    if parallel.rank() == 0:
        validation = trainer.validate(*held_out)
        record.validation(progress.global_step, validation)
        if validation.score < progress.best:
            progress.best, progress.best_step = validation.score, progress.global_step
            progress.n_without_gain = 0
            trainer.save(folder / BEST, _line(notes, progress))
        else:
            progress.n_without_gain += 1
            if progress.n_without_gain >= TELL_WITHOUT_GAIN:
                record.note(
                    f"no gain for {progress.n_without_gain} validations: the best score, "
                    f"{progress.best:.4g}, is that of batch {progress.best_step:,}, kept in {BEST}"
                )
    _wait()


def _record(
    folder: Path, config: LoopConfig, progress: _Progress, trainer: Trainer
) -> TrainingLogger | NullLogger:
    if parallel.rank():
        return NullLogger()
    n_images = config.batch_size * parallel.n_workers()
    pace = Pace(config.n_batches, trainer.effort_at)
    return TrainingLogger(folder, n_images, config.log_every, pace, progress.global_step)


def _step(trainer: Trainer, batch: Batch, folder: Path) -> dict[str, float]:
    try:
        return trainer.step(batch.images, batch.z, batch.labels)
    except NotFinite as error:
        path = folder / BAD_BATCH.format(parallel.rank())
        kept = {"images": batch.images, "z": batch.z, "labels": batch.labels}
        torch.save(kept | {"keys": list(batch.keys)}, path)
        raise NotFinite(
            f"{error}; training stopped, and that update was not made. The batch is in {path}: look at it, "
            "or begin with the last checkpoint and a lower learning rate in another --out"
        ) from None


def _counts(batch: Batch, stream: SampleStream) -> dict[str, float]:
    return {
        "epoch": batch.position.epoch,
        "failed_samples": batch.n_failed,
        "broken_shards": len(stream.broken),
    }


def _resume(trainer: Trainer, folder: Path) -> _Progress:
    """Where this worker stopped; the trainer is given its state back."""
    saved = state.load(folder)
    if parallel.n_workers() > 1:
        counts = [0] * parallel.n_workers()
        distributed.all_gather_object(counts, saved["n_done"] if saved else 0)
        if len(set(counts)) > 1:
            raise ConfigError(
                f"the workers found states after {counts} batches in {folder}; --out must be on storage that "
                "all of them share"
            )
    if saved is None:
        return _Progress()
    trainer.load_state_dict(saved["trainer"])
    mine = saved["workers"][parallel.rank()]
    torch.set_rng_state(mine["rng"])
    return _Progress(
        saved["n_done"],
        Position(**mine["position"]),
        saved["best"],
        saved.get("best_step", 0),  # states of release 0.1 lack these two
        saved.get("n_without_gain", 0),
        saved["n_done"],
    )


def _save(trainer: Trainer, folder: Path, progress: _Progress, notes: str) -> None:
    """The state of all workers, and the model as it stands."""
    mine = {"position": asdict(progress.position), "rng": torch.get_rng_state()}
    workers = [mine]
    if parallel.n_workers() > 1:
        workers = [mine] * parallel.n_workers()
        distributed.all_gather_object(workers, mine)
    if parallel.rank() == 0:
        trainer.save(folder / LAST, _line(notes, progress))
        content = {
            "trainer": trainer.state_dict(),
            "workers": workers,
            "n_done": progress.global_step,
            "best": progress.best,
            "best_step": progress.best_step,
            "n_without_gain": progress.n_without_gain,
        }
        state.save(folder, content)
    _wait()
    progress.saved_step, progress.saved_at = progress.global_step, time.monotonic()


def _line(notes: str, progress: _Progress) -> str:
    return f"{notes}; {progress.global_step} batches, epoch {progress.position.epoch + 1}"


def _wait() -> None:
    """Until all workers are here: what one writes, the others may then read."""
    if parallel.n_workers() > 1:
        distributed.barrier()
