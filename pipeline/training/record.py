"""What a training run shows of itself: a bar, a log of JSON lines, TensorBoard scalars and pictures."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from generators.files import atomic
from generators.training.protocol import Validation
from pipeline.faces.images import encode_jpeg
from pipeline.printing import printable
from pipeline.training.pace import Pace

LOG = "log.jsonl"
BOARD = "tensorboard"
SAMPLES = "samples.jpg"


class TrainingLogger:
    """Takes the terms of every batch and tells their means now and then."""

    def __init__(
        self, folder: Path, n_images: int, every: int, pace: Pace, global_step: int
    ) -> None:
        """
        Args:
            n_images: in a batch of all workers together.
            every: batches between two entries.
            pace: told once it is known.
            global_step: batches of earlier stretches.
        """
        self._folder, self._pace, self._global_step = folder, pace, global_step
        self._log = (folder / LOG).open("a")
        self._board = _board(folder / BOARD)
        self._bar = tqdm(total=pace.n_batches, initial=global_step, unit="batch", desc="training")
        self._n_images, self._every = n_images, every
        self._values: dict[str, list[float]] = defaultdict(list)
        self._n, self._seconds, self._since = 0, 0.0, time.monotonic()

    def close(self) -> None:
        """Close bar, log and board."""
        self._bar.close()
        self._log.close()
        if self._board is not None:
            self._board.close()

    def batch(self, global_step: int, terms: dict[str, float], extra: dict[str, float]) -> None:
        """The terms of one more batch; ``extra`` goes into the log as it is."""
        for name, value in terms.items():
            self._values[name].append(value)  # some terms are not of every batch
        now = time.monotonic()
        seconds, self._since = now - self._since, now
        self._n, self._global_step = self._n + 1, global_step
        self._seconds += seconds
        self._bar.update(global_step - self._bar.n)
        sentence = self._pace.after(global_step, seconds)
        if sentence is not None:
            self.note(sentence)
        if global_step % self._every == 0:
            self._tell_means(extra)

    def _tell_means(self, extra: dict[str, float]) -> None:
        """The means of the batches since the last entry."""
        means = {name: sum(values) / len(values) for name, values in self._values.items()}
        rate = self._n * self._n_images / max(self._seconds, 1e-9)
        shown = " ".join(f"{name} {value:.4f}" for name, value in means.items())
        self._bar.set_postfix_str(f"{shown}, {rate:.1f} images/s", refresh=True)
        self._write("train", self._global_step, means | {"images_per_s": rate} | extra)
        self._values.clear()
        self._n, self._seconds = 0, 0.0

    def validation(self, global_step: int, result: Validation) -> None:
        """Each distance at each step, and the pictures step by step, which also lie in the folder."""
        scalars = result.named() | {"score": result.score}
        self._write("validation", global_step, scalars)
        pixels = picture(result.grid)
        atomic.write_bytes(self._folder / SAMPLES, encode_jpeg(pixels.permute(1, 2, 0).numpy()))
        if self._board is not None:
            self._board.add_image("steps", pixels, global_step)
        self._bar.write(line_of({"batch": global_step, **scalars}))
        self._since = time.monotonic()  # the seconds above are no training

    def note(self, text: str) -> None:
        """A sentence for people, shown and kept in the log."""
        self._entry({"kind": "note", "batch": self._global_step, "text": text})
        self._bar.write(printable(text))

    def _write(self, kind: str, global_step: int, values: dict[str, float]) -> None:
        rounded = {name: float(f"{value:.6g}") for name, value in values.items()}
        self._entry({"kind": kind, "batch": global_step, "time": round(time.time(), 1)} | rounded)
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(f"{kind}/{name}", value, global_step)

    def _entry(self, entry: dict[str, Any]) -> None:
        self._log.write(json.dumps(entry) + "\n")
        self._log.flush()


def line_of(entry: dict[str, Any]) -> str:
    """An entry of the log for people."""
    if entry.get("kind") == "note":
        return printable(entry["text"])
    hidden = ("kind", "batch", "time")
    values = " ".join(f"{k} {v:.4g}" for k, v in entry.items() if k not in hidden)
    return printable(f"batch {entry['batch']}: {values}")


class NullLogger:
    """The record of a worker that is not the first."""

    def batch(self, global_step: int, terms: dict[str, float], extra: dict[str, float]) -> None: ...
    def validation(self, global_step: int, result: Validation) -> None: ...
    def note(self, text: str) -> None: ...
    def close(self) -> None: ...


def picture(grid: Tensor) -> Tensor:
    """[rows, n, 3, h, w] in [-1, 1] -> one picture [3, rows h, n w] uint8."""
    rows, n, c, h, w = grid.shape
    joined = grid.permute(2, 0, 3, 1, 4).reshape(c, rows * h, n * w)
    return joined.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)


def _board(folder: Path) -> Any:
    """TensorBoard's writer, or None where the package is not installed (extra `train`)."""
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder))
