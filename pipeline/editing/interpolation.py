"""Paths through latents: from key to key, or along a direction; linear in W+."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from generators.delta import Delta
from pipeline import storage
from pipeline.config import PATH, setting
from pipeline.editing import animation, expression, pivots
from pipeline.editing.edit import sources
from pipeline.editing.pivots import PivotConfig
from pipeline.editing.rows import as_dicts
from pipeline.editing.tuned import COLUMNS as FOR_TUNING
from pipeline.editing.tuned import FilePivots
from pipeline.errors import ConfigError
from pipeline.faces import images
from pipeline.latents import footer
from pipeline.latents.files import opened, require_same_run
from pipeline.latents.names import plain_key
from pipeline.latents.record import require_columns
from pipeline.latents.schema import stacked
from pipeline.models import LatentRenderer, load_generating_model

N_KEYS_NAMED = 5  # in a message
MAX_FRAMES = 36_000  # 25 minutes; the latents of all are held
COLUMNS = ["key", "shard", "face", "status"]
OF_ROW = (
    "sample_index",
    "latent",
    *FOR_TUNING,
)  # of the rows that the path leads through, where they are


@dataclass(frozen=True)
class PathConfig(PivotConfig):
    """A path and how it is drawn."""

    keys: tuple[str, ...]  # through these, in order
    steps: int = setting(24, "Frames from one point to the next.", PATH, least=1, most=10_000)
    loop: bool = setting(False, "Return to the first point at the end.", PATH)
    direction: str | None = setting(
        None, "Move each key along this one, as in `restyle edit`.", PATH
    )
    strengths: tuple[float, ...] = setting((), "Points along it, such as -2,2.", PATH)
    frames_per_s: float = setting(24.0, "Frames per second.", PATH, flag="fps", least=1, most=120)
    size: int | None = setting(
        None,
        "Pixels of the longer side of each frame. Default: what the generator draws.",
        PATH,
        least=1,
        most=images.MAX_SIDE,
    )

    def __post_init__(self) -> None:
        if len(self.keys) * max(1, len(self.strengths)) < 2:
            raise ConfigError("a path needs two points: name another key, or two --strengths")
        if (self.direction is None) != (not self.strengths):
            raise ConfigError("--direction and --strengths go together")
        with np.errstate(over="ignore"):
            strengths = np.asarray(self.strengths, np.float32)
        if not np.isfinite(strengths).all():
            raise ConfigError("--strengths takes finite numbers, no larger than latents can hold")
        n_frames = len(self.keys) * max(1, len(self.strengths)) * self.steps
        if n_frames > MAX_FRAMES:
            raise ConfigError(
                f"a path of {n_frames:,} frames is too long, {MAX_FRAMES:,} are the most; pass fewer "
                "--steps, or draw it in parts"
            )


def interpolate(latents: str, out: str, config: PathConfig) -> int:
    """Draw a path into a folder of frames, a ``.webp``, ``.gif`` or ``.mp4``; returns the number of frames.

    Raises:
        ConfigError, CheckpointError: a key that there is not or that is in several shards, no model.
    """
    animation.require(out)
    rows, records = _found(latents, [plain_key(key) for key in config.keys])
    points, record = stacked([row["latent"] for row in rows]), records[0]
    renderer = LatentRenderer(record, config)
    if config.direction is not None:
        n_styles, w_dim = points.shape[1:]
        step = expression.resolve(
            expression.parse(config.direction),
            n_styles,
            w_dim,
            lambda: load_generating_model(record, config.model, config.generator).generator,
        ).numpy()
        offsets = np.multiply.outer(np.asarray(config.strengths, np.float32), step)
        points = (points[:, None] + offsets[None]).reshape(-1, *step.shape)
    frames = along(points, config.steps, config.loop)
    animation.require_fitting(out, len(frames), images.fitted(*renderer.size, config.size))
    tuned = _tuned(latents, config, rows, records, renderer)
    drawn = _drawn(renderer, frames, config, tuned)
    pictures = (images.sized(picture, config.size) for picture in drawn)
    animation.write(out, pictures, config.frames_per_s)
    return len(frames)


def _tuned(
    latents: str,
    config: PathConfig,
    rows: Sequence[dict[str, Any]],
    records: Sequence[dict[str, Any]],
    renderer: LatentRenderer,
) -> list[Delta]:
    """What the generator is changed by at each key; [] where it draws them as it is."""
    chosen = pivots.chosen(config, latents, records[0])
    if chosen is None:
        return []
    pivots.require_few(len(rows), chosen, config, renderer, "name fewer keys")
    of_rows = zip(rows, records, strict=True)
    return [FilePivots(chosen, renderer, record).of(row) for row, record in of_rows]


def _drawn(
    renderer: LatentRenderer, frames: np.ndarray, config: PathConfig, tuned: list[Delta]
) -> Iterator[np.ndarray]:
    """The pictures of frames; between keys, what the generator is changed by passes over as latents do."""
    if not tuned:
        for first in range(0, len(frames), config.batch_size):
            yield from renderer.draw(frames[first : first + config.batch_size])
        return
    of_point = np.eye(len(tuned), dtype=np.float32).repeat(max(1, len(config.strengths)), axis=0)
    shares = along(of_point[:, None], config.steps, config.loop)[:, 0]
    for frame, of_frame in zip(frames, shares, strict=True):
        parts = [(float(s), each) for s, each in zip(of_frame, tuned, strict=True) if s > 0]
        yield from renderer.draw(frame[None], Delta.mixed(parts))


def along(points: np.ndarray, steps: int, loop: bool) -> np.ndarray:
    """Latents on the straight lines between points [K, n_styles, w_dim], points among them.

    Args:
        steps: from one point to the next.
        loop: goes on to the first, which stands at the start only.

    Returns [(K - 1) * steps + 1, ...], with a loop [K * steps, ...].
    """
    ends = np.concatenate([points, points[:1]]) if loop else points
    shares = (np.arange(steps, dtype=np.float32) / steps).reshape(-1, 1, 1)
    lines = [a + shares * (b - a) for a, b in pairwise(ends)]
    return np.concatenate(lines if loop else [*lines, points[-1:]]).astype(np.float32)


def _found(latents: str, keys: Sequence[str]) -> tuple[list[dict], list[dict]]:
    """The rows of some keys, those of the largest face, and the footers of their files."""
    rows: dict[str, tuple[dict, dict]] = {}
    record: dict = {}
    for url in sources(latents):
        for row, of_file in _rows(url, frozenset(keys)):
            record = record or of_file
            require_same_run(record, of_file, url)
            key = plain_key(row["key"])
            if key in rows:
                other = (
                    f"{storage.redact(rows[key][0]['shard'])} and {storage.redact(row['shard'])}"
                )
                raise ConfigError(
                    f"the key {key!r} is in several rows ({other}); choose latents without edits, or "
                    "a folder with one of the shards"
                )
            rows[key] = row, of_file
    for key in keys:
        if key not in rows:
            raise ConfigError(
                f"{storage.redact(latents)} holds no latent with the key {key!r}; a key is the name of an "
                f"image in its shard, without the extension, such as {', '.join(_some_keys(latents))}"
            )
    return [rows[key][0] for key in keys], [rows[key][1] for key in keys]


def _some_keys(latents: str) -> list[str]:
    """The first few keys with a latent in the first file, for people."""
    with opened(*storage.filesystem(sources(latents)[0])) as source:
        require_columns(source.schema_arrow, ("key", "status"), latents)
        first = next(source.iter_batches(64, columns=["key", "status"]), None)
    if first is None:
        return []
    rows = zip(first["key"].to_pylist(), first["status"].to_pylist(), strict=True)
    return [plain_key(key) for key, status in rows if status == "ok"][:N_KEYS_NAMED]


def _rows(url: str, keys: frozenset[str]) -> Iterator[tuple[dict, dict]]:
    """The rows of one file that are asked for, and its footer."""
    wanted = pa.array(sorted({*keys, *(f"./{key}" for key in keys)}))
    with opened(*storage.filesystem(url)) as source:
        record = footer(source.metadata, url)
        require_columns(source.schema_arrow, (*COLUMNS, "latent"), url)
        for group in range(source.num_row_groups):
            rows = source.read_row_group(group, columns=COLUMNS)
            is_meant = pc.is_in(rows["key"], wanted).to_numpy()
            for i in np.flatnonzero(is_meant):
                row = rows.slice(i, 1).to_pylist()[0]
                if row["status"] == "ok" and row["face"] <= 0:
                    more = [name for name in OF_ROW if name in source.schema_arrow.names]
                    table = source.read_row_group(group, columns=more).slice(i, 1).combine_chunks()
                    yield row | next(as_dicts(table.to_batches()[0])), record
