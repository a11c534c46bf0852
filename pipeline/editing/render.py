"""Latents -> pictures in a folder, at full size; or pasted back into the photos they came from."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from generators.files import atomic
from pipeline import storage
from pipeline.config import OUTPUT, setting
from pipeline.editing import pivots
from pipeline.editing.edit import sources
from pipeline.editing.pivots import PivotConfig, Pivots
from pipeline.editing.rows import as_dicts
from pipeline.editing.tuned import COLUMNS as FOR_TUNING
from pipeline.editing.tuned import FilePivots, Tunings
from pipeline.errors import ConfigError, ShardError
from pipeline.faces import images
from pipeline.faces.paste import FEATHER, paste
from pipeline.latents import footer
from pipeline.latents.files import opened, require_same_run
from pipeline.latents.names import RowNames, plain_key, shard_folder
from pipeline.latents.record import require_columns
from pipeline.latents.schema import stacked
from pipeline.models import LatentRenderer
from pipeline.shards.photos import Recorded, SourcePhotos

N_KEYS_SEEN = 5  # that a message names
COLUMNS = ("key", "shard", "sample_index", "face", "status", "direction", "strength", "latent")
NEEDED = ("key", "sample_index", "face", "latent")
FOR_PASTE = ("quad", "width", "height")
ENCODERS: dict[str, Callable[[np.ndarray], bytes]] = {
    "jpg": images.encode_jpeg,
    "png": images.encode_png,
}


@dataclass(frozen=True)
class RenderConfig(PivotConfig):
    """Which pictures, and how."""

    format: Literal["jpg", "png"] = setting("jpg", "Of the picture files.", OUTPUT)
    paste_back: bool = setting(
        False, "Warp the picture into the photo that the face was found in.", OUTPUT
    )
    photos: str | None = setting(
        None,
        "Folder or address of the shards, or folder of the photos, for --paste-back and --pivot. Default: "
        "where they were inverted, on this machine, and for --pivot the saved crops.",
        OUTPUT,
    )
    feather: float = setting(
        FEATHER,
        "Width of the seam of --paste-back, as a share of the face's square.",
        OUTPUT,
        least=0,
        most=0.5,
    )
    keys: tuple[str, ...] = setting(
        (),
        "Only these images: keys with commas between them (those that hold one in double quotes), or @FILE "
        "with one a line. Default: all.",
        OUTPUT,
    )
    limit: int | None = setting(None, "Maximum number of pictures.", OUTPUT, least=1)


@dataclass
class Rendered:
    """What was written."""

    n_written: int = 0
    n_there: int = 0  # written by an earlier call
    n_without: int = 0  # rows without a latent
    keys_missing: set[str] = field(default_factory=set)  # asked for and not found
    keys_seen: list[str] = field(default_factory=list)  # a few that there are
    tunings: Tunings = field(default_factory=Tunings)  # of --pivot
    pivots: Pivots | None = None  # where they are kept


@dataclass(frozen=True)
class Job:
    """A picture to be."""

    path: Path
    row: dict[str, Any]


def render(
    latents: str, out: str, config: RenderConfig, progress: Callable[[int], None]
) -> Rendered:
    """Draw the rows of a folder, edits among them, into ``out/<shard>/<key>.jpg``.

    Pictures that are there already stay, so that the same call goes on where one was stopped.

    Args:
        progress: called with the number of rows of each batch.

    Raises:
        ConfigError, CheckpointError, ShardError: no latents, model or photo to draw from.
    """
    if storage.is_remote(out):
        raise ConfigError(f"pictures go into a local folder; pass --out pictures/ instead of {out}")
    done = Rendered(keys_missing=set(map(plain_key, config.keys)))
    stems: dict[str, str] = {}
    renderer, first = None, dict[str, Any]()
    urls = sources(latents)
    for url in urls:
        files, path = storage.filesystem(url)
        with opened(files, path) as source:
            record = footer(source.metadata, url)
            require_columns(source.schema_arrow, NEEDED, url)
            first = first or record
            require_same_run(first, record, url)
            if renderer is None:
                renderer = _renderer(record, config, source.schema_arrow)
                done.pivots = _pivots(latents, urls, record, config, renderer)
            name = shard_folder(str(record.get("shard")), os.path.basename(path), stems)
            jobs = _jobs(source, Path(out) / name, config, done, progress)
            _write(_chunks(jobs, config.batch_size), renderer, record, config, done)
        if config.limit is not None and done.n_written + done.n_there >= config.limit:
            break
    return done


def _renderer(record: dict[str, Any], config: RenderConfig, columns: pa.Schema) -> LatentRenderer:
    if config.paste_back and "quad" not in columns.names:
        raise ConfigError(
            "--paste-back needs to know where the faces were: invert with --align face, or leave it out"
        )
    return LatentRenderer(record, config)


def _pivots(
    latents: str,
    urls: Sequence[str],
    record: Mapping[str, Any],
    config: RenderConfig,
    renderer: LatentRenderer,
) -> Pivots | None:
    """What rows are drawn with; refused where the generator would be tuned for many of them."""
    chosen = pivots.chosen(config, latents, record)
    if chosen is not None and not chosen.of_edits:
        n_rows = pivots.n_selected(urls, frozenset(map(plain_key, config.keys)))
        n_rows = min(n_rows, config.limit or n_rows)
        pivots.require_few(n_rows, chosen, config, renderer, "choose them with --keys or --limit")
    return chosen


def _jobs(
    source: pq.ParquetFile,
    folder: Path,
    config: RenderConfig,
    done: Rendered,
    progress: Callable[[int], None],
) -> Iterator[Job]:
    """Rows that are to be drawn, in stored order."""
    given, keys = RowNames(), set(map(plain_key, config.keys))
    wanted = [*COLUMNS, *(FOR_PASTE if config.paste_back else ())]
    wanted += [] if done.pivots is None else [n for n in FOR_TUNING if n not in wanted]
    columns = [name for name in wanted if name in source.schema_arrow.names]
    for batch in source.iter_batches(64, columns=columns):
        for row in as_dicts(batch):
            path = given.path(row)
            key = plain_key(row["key"])
            if row["latent"] is not None and len(done.keys_seen) < N_KEYS_SEEN:
                done.keys_seen.append(key)
            if keys and key not in keys:
                continue
            done.keys_missing.discard(key)
            goal = folder / f"{path}.{config.format}"
            if row["latent"] is None:
                done.n_without += 1
            elif config.limit is not None and done.n_written + done.n_there >= config.limit:
                return
            elif goal.exists():
                done.n_there += 1
            else:
                done.n_written += 1
                yield Job(goal, row)
        progress(len(batch))


def _chunks(jobs: Iterator[Job], n: int) -> Iterator[list[Job]]:
    chunk: list[Job] = []
    for job in jobs:
        chunk.append(job)
        if len(chunk) == n:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _write(
    chunks: Iterator[Sequence[Job]],
    renderer: LatentRenderer,
    record: dict[str, Any],
    config: RenderConfig,
    done: Rendered,
) -> None:
    photos = None
    if config.paste_back:
        place = record["shard"], images.decode_or_none, config.photos
        photos = SourcePhotos(*place, *Recorded.of(record))
    tuned = None
    if done.pivots is not None:
        tuned = FilePivots(done.pivots, renderer, record, done.tunings)
    for chunk in chunks:
        drawn = _drawn(renderer, [job.row for job in chunk], tuned)
        for job, picture in zip(chunk, drawn, strict=True):
            if photos is not None:
                photo = photos.of(job.row)
                if photo is None:
                    raise ShardError(
                        f"{job.row['key']} has a latent but no photo; verify the folder"
                    )
                picture = _pasted(photo, picture, job.row, config.feather)
            _save(job.path, ENCODERS[config.format](picture))


def _drawn(
    renderer: LatentRenderer, rows: Sequence[dict[str, Any]], tuned: FilePivots | None
) -> list[np.ndarray]:
    """A picture of each row; those of one face are drawn together where the generator is tuned for it."""
    if tuned is None:
        return renderer.draw(stacked([row["latent"] for row in rows]))
    pictures = []
    for _, group in groupby(rows, key=lambda row: (row["sample_index"], row["face"])):
        of_face = list(group)
        latents = stacked([row["latent"] for row in of_face])
        pictures += renderer.draw(latents, tuned.of(of_face[0]))
    return pictures


def _pasted(
    photo: np.ndarray, picture: np.ndarray, row: dict[str, Any], feather: float
) -> np.ndarray:
    quad = row["quad"]
    if quad is None or not np.isfinite(quad).all():
        raise ConfigError(f"{row['key']} does not tell where its face was; verify the folder")
    try:
        return paste(photo, picture, quad, feather)
    except ValueError as error:
        raise ConfigError(f"{row['key']} cannot be pasted back: {error}") from None


def _save(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_bytes(path, data)
    except OSError as error:
        raise ConfigError(f"cannot write {path} ({error.strerror or error})") from None
