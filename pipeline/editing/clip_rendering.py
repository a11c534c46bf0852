"""Rows of a clip -> the clip again: each frame with its face put back, at its time."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.config import LABEL_PREFIX
from pipeline.editing import animation, movie
from pipeline.editing.edit import sources
from pipeline.editing.pasting import COLUMNS as FOR_PASTE
from pipeline.editing.pasting import Pasting, is_edited
from pipeline.editing.render import (
    COLUMNS,
    NEEDED,
    RenderConfig,
    Rendered,
    drawn_rows,
    pivots_of,
    renderer_of,
)
from pipeline.editing.rows import as_dicts
from pipeline.editing.tuned import COLUMNS as FOR_TUNING
from pipeline.editing.tuned import FilePivots
from pipeline.errors import ConfigError
from pipeline.faces import images
from pipeline.inversion.clips import clip_of
from pipeline.latents import footer
from pipeline.latents.files import opened
from pipeline.latents.names import plain_key
from pipeline.latents.record import require_columns
from pipeline.models import LatentRenderer
from pipeline.shards import clips

TIME, FPS = f"{LABEL_PREFIX}time_s", f"{LABEL_PREFIX}fps"
USUAL_FPS = 25.0  # where neither a label nor the times tell
N_SHOWN = 10  # clips that a message names


@dataclass
class RenderedClip(Rendered):
    """What was written; ``n_without`` are frames that stand as they were."""

    n_undecodable: int = 0  # frames that are not there: the one before them is shown for longer
    clip: str = ""
    sound: str | None = None  # the file that it is of


def render_clip(
    latents: str, out: str, config: RenderConfig, progress: Callable[[int], None]
) -> RenderedClip:
    """Put the rows of a clip back into its frames, and write these as an .mp4.

    A row without a latent leaves its frame as it was; one that cannot be decoded is left out, and the frame
    before it is shown until the next.

    Args:
        progress: called with the number of rows of each batch.

    Raises:
        ConfigError, CheckpointError, ShardError: there is no clip, no model or no frame to draw into.
    """
    if not out.lower().endswith(animation.MP4):
        raise ConfigError(
            f"--video writes an {animation.MP4}; pass --out clip.mp4 instead of {out}"
        )
    if config.keys:
        raise ConfigError("--video writes all frames of a clip; leave out --keys, or --video")
    config = replace(config, paste_back=config.paste_back or "auto")
    animation.require(out)
    urls = sources(latents)
    url, clip, sound = _chosen(urls, config.clip)
    done = RenderedClip(clip=clip)
    files, path = storage.filesystem(url)
    with opened(files, path) as source:
        record = footer(source.metadata, url)
        columns = source.schema_arrow
        require_columns(columns, (*NEEDED, "status"), url)
        if TIME not in columns.names:
            raise ConfigError(
                "these rows do not tell the times of their frames; pack the clip with `restyle pack`, and "
                "invert its shard with --video"
            )
        if "quad" not in columns.names and not is_edited(record):
            raise ConfigError(
                "--video puts faces back into frames, and these rows do not tell where they were; invert "
                "with --align face, or draw what `restyle edit` made of these rows"
            )
        renderer = renderer_of(record, config, columns)
        done.pivots = pivots_of(latents, urls, record, config, renderer)
        rows = _rows(source, clip, config.limit, progress)
        frames = _Frames(renderer, record, columns.names, config, done)
        if movie.write(out, frames.of(rows), _fps(source, clip), sound):
            done.sound = sound
    return done


def _chosen(urls: Sequence[str], asked: str | None) -> tuple[str, str, str | None]:
    """The file of rows, the clip in it, and the video whose sound is wanted.

    Raises:
        ConfigError: several clips and none named, or none of that name.
    """
    found: dict[str, str] = {}
    for url in urls:
        with opened(*storage.filesystem(url)) as source:
            require_columns(source.schema_arrow, ("key",), url)
            for batch in source.iter_batches(columns=["key"]):
                for key in batch.column("key").to_pylist():
                    found.setdefault(clip_of(key), url)
    sound = asked if asked is not None and os.path.isfile(asked) else None
    wanted = asked
    if sound is not None:
        with clips.opened(sound):  # what is no clip is told before anything is drawn
            wanted = clips.name_of(os.path.basename(sound))
    fitting = [c for c in found if wanted in (c, c.rpartition("/")[2])]
    if wanted is None or (sound is not None and len(found) == 1):
        fitting = list(found)
    if len(fitting) == 1:
        return found[fitting[0]], fitting[0], sound
    shown = ", ".join(map(plain_key, list(found)[:N_SHOWN])) + (", ..." * (len(found) > N_SHOWN))
    if asked is None:
        raise ConfigError(f"the rows are of several clips; name one by --clip: {shown}")
    raise ConfigError(
        f"--clip {asked} is no video file, and no one clip of these rows has that name; they are: {shown}"
    )


def _fps(source: pq.ParquetFile, clip: str) -> float:
    """Frames per second of a clip, about."""
    if FPS not in source.schema_arrow.names:
        return USUAL_FPS
    for batch in source.iter_batches(columns=["key", FPS]):
        for row in batch.to_pylist():
            fps = row[FPS]
            if clip_of(row["key"]) == clip and fps is not None and 0.1 <= fps <= 1000:
                return float(fps)
    return USUAL_FPS


def _rows(
    source: pq.ParquetFile, clip: str, limit: int | None, progress: Callable[[int], None]
) -> Iterator[dict[str, Any]]:
    """The rows of a clip, each of another frame and later than the last.

    Raises:
        ConfigError: they are not.
    """
    wanted = dict.fromkeys((*COLUMNS, *FOR_PASTE, *FOR_TUNING, TIME))
    names = [name for name in wanted if name in source.schema_arrow.names]
    last, last_time, n = -1, -math.inf, 0
    for batch in source.iter_batches(64, columns=names):
        for row in as_dicts(batch):
            if clip_of(row["key"]) != clip:
                continue
            if row["sample_index"] == last:
                raise ConfigError(
                    "these rows hold several pictures of each frame; edit with one --direction and one "
                    "strength, and invert without --faces all"
                )
            time = row[TIME]
            if time is None or not last_time < time < math.inf:
                name = plain_key(row["key"])
                raise ConfigError(
                    f"{name} has no time behind that of the frame before; pack the clip again"
                )
            last, last_time, n = row["sample_index"], time, n + 1
            yield row
            if n == limit:
                return
        progress(len(batch))


class _Frames:
    """Frames of one clip with the faces put back."""

    def __init__(
        self,
        renderer: LatentRenderer,
        record: dict[str, Any],
        columns: Sequence[str],
        config: RenderConfig,
        done: RenderedClip,
    ) -> None:
        self._renderer, self._config, self._done = renderer, config, done
        self._pasting = Pasting(config.pasting, record, columns)
        done.replaced = self._pasting.replaced
        self._tuned = None
        if done.pivots is not None:
            self._tuned = FilePivots(done.pivots, renderer, record, done.tunings)

    def of(self, rows: Iterator[dict[str, Any]]) -> Iterator[tuple[float, np.ndarray]]:
        """Each frame with its time from the first."""
        shape, start = None, None
        for row, frame in self._pasted(rows):
            if frame is None:
                self._done.n_undecodable += 1
                continue
            if shape not in (None, frame.shape):
                raise ConfigError(
                    f"{plain_key(row['key'])} has another size than the frames before; pack the clip again"
                )
            start = row[TIME] if start is None else start
            shape = frame.shape
            self._done.n_written += 1
            yield row[TIME] - start, images.sized(frame, self._config.size)
        if shape is None:
            raise ConfigError(f"no frame of {self._done.clip} can be decoded")

    def _pasted(
        self, rows: Iterator[dict[str, Any]]
    ) -> Iterator[tuple[dict[str, Any], np.ndarray | None]]:
        """The rows' frames in order: the shard is read as a stream, where none can be asked for ahead."""
        for has_latent, group in groupby(rows, key=lambda row: row["latent"] is not None):
            if not has_latent:
                for row in group:
                    self._done.n_without += 1
                    yield row, self._pasting.photo(row)
                continue
            while chunk := list(islice(group, self._config.batch_size)):
                yield from zip(chunk, self._drawn(chunk), strict=True)

    def _drawn(self, rows: Sequence[dict[str, Any]]) -> list[np.ndarray]:
        def draw(others: Sequence[dict[str, Any]]) -> list[np.ndarray]:
            return drawn_rows(self._renderer, others, self._tuned)

        return self._pasting(rows, draw(rows), draw)
