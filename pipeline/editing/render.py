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
from pipeline.config import CLIPS, OUTPUT, setting
from pipeline.editing import animation, pivots
from pipeline.editing.edit import sources
from pipeline.editing.framing import AS_DRAWN, Framing
from pipeline.editing.framing import COLUMNS as FOR_FRAMING
from pipeline.editing.pasting import COLUMNS as FOR_PASTE
from pipeline.editing.pasting import PasteConfig, Pasting, require_possible
from pipeline.editing.pivots import PivotConfig, Pivots
from pipeline.editing.rows import as_dicts
from pipeline.editing.tuned import COLUMNS as FOR_TUNING
from pipeline.editing.tuned import FilePivots, Tunings
from pipeline.errors import ConfigError
from pipeline.faces import images
from pipeline.faces.paste import FEATHER, Mask, Mode
from pipeline.latents import footer
from pipeline.latents.files import opened, require_same_run
from pipeline.latents.names import RowNames, plain_key, shard_folder
from pipeline.latents.record import require_columns
from pipeline.latents.schema import stacked
from pipeline.models import LatentRenderer

N_KEYS_SEEN = 5  # that a message names
COLUMNS = ("key", "shard", "sample_index", "face", "status", "direction", "strength", "latent")
NEEDED = ("key", "sample_index", "face", "latent")
NAMING = ("key", "sample_index", "face", "direction", "strength")  # what a row's name is made of
MAX_FLAT_FILES, MAX_FLAT_ROWS = 64, 100_000  # whose names are compared
PASTE = "Pasting back"  # heading of the flags
ENCODERS: dict[str, Callable[[np.ndarray], bytes]] = {
    "jpg": images.encode_jpeg,
    "png": images.encode_png,
}


@dataclass(frozen=True)
class RenderConfig(PivotConfig):
    """Which pictures, and how."""

    format: Literal["jpg", "png"] = setting("jpg", "Of the picture files.", OUTPUT)
    size: int | None = setting(
        None,
        "Pixels of the longer side of each picture. Default: what the generator draws, or the photo's own.",
        OUTPUT,
        least=1,
        most=images.MAX_SIDE,
    )
    paste_back: Mode | None = setting(
        None,
        "Warp the picture into the photo that the face was found in. difference: add what the edit changed "
        "to the photo; replace: put the picture in the place of the face; auto, or no word: edits by "
        "difference, inversions by replacing.",
        PASTE,
        bare="auto",
    )
    paste_mask: Mask = setting(
        "face",
        "Where a difference is added: in the face, or in the whole square around it, hair included.",
        PASTE,
    )
    source: str | None = setting(
        None,
        "Folder or address of the latents that were edited, for differences. Default: where they were "
        "edited, on this machine.",
        PASTE,
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
        PASTE,
        least=0,
        most=0.5,
    )
    unaligned: bool = setting(
        False, "Turn each face as it was in its photo, by a StyleGAN3's own motion.", OUTPUT
    )
    margin: int = setting(
        0, "Pixels to draw beyond each side of a StyleGAN3's picture.", OUTPUT, least=0
    )
    keys: tuple[str, ...] = setting(
        (),
        "Only these images: keys with commas between them (those that hold one in double quotes), or @FILE "
        "with one per line. Default: all.",
        OUTPUT,
    )
    limit: int | None = setting(None, "Maximum number of pictures.", OUTPUT, least=1)
    frames_per_s: float = setting(
        4.0,
        "Frames per second, where --out is a .gif, .webp or .mp4.",
        OUTPUT,
        flag="fps",
        least=0.1,
        most=120,
    )
    video: bool = setting(
        False,
        "Put every row back into its frame (as --paste-back does) and write the frames of a clip, with their "
        "times, to --out, an .mp4.",
        CLIPS,
    )
    clip: str | None = setting(
        None,
        "With --video: the clip's own file, whose sound is taken along. Of several clips, the one that is "
        "meant, by its file or its name.",
        CLIPS,
    )

    @property
    def framing(self) -> Framing:
        return Framing(self.unaligned, self.margin)

    @property
    def pasting(self) -> PasteConfig:
        mode = self.paste_back or "auto"
        return PasteConfig(mode, self.paste_mask, self.feather, self.photos, self.source)


@dataclass
class Rendered:
    """What was written."""

    n_written: int = 0
    n_there: int = 0  # written by an earlier call
    n_without: int = 0  # rows without a latent
    first: Path | None = None  # of the pictures, whoever wrote it
    replaced: str = ""  # why faces were replaced by --paste-back where nobody asked for it
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
    """Draw the rows of a folder, edits among them, into ``out/<key>.jpg``, or ``out/<shard>/<key>.jpg`` where
    keys are not different (see :func:`is_flat`). If ``out`` is a ``.gif``, ``.webp`` or ``.mp4``, they are
    its frames.

    Pictures that are there already stay, so that the same call goes on where one was stopped.

    Args:
        progress: called with the number of rows of each batch.

    Raises:
        ConfigError, CheckpointError, ShardError: no latents, model or photo to draw from.
    """
    if storage.is_remote(out):
        raise ConfigError(f"pictures go into a local folder; pass --out pictures/ instead of {out}")
    done = Rendered(keys_missing=set(map(plain_key, config.keys)))
    pictures = _pictures(latents, out, config, done, progress)
    if animation.is_movie(out):
        animation.require(out)
        animation.write(out, _frames(pictures, out), config.frames_per_s)
        done.first = None
        return done
    for path, picture in pictures:
        _save(path, ENCODERS[config.format](picture))
    return done


def _frames(pictures: Iterator[tuple[Path, np.ndarray]], out: str) -> Iterator[np.ndarray]:
    """Pictures that can follow each other in one file."""
    first: Path | None = None
    shape: tuple[int, ...] = ()
    for n, (path, picture) in enumerate(pictures):
        if first is None:
            first, shape = path, picture.shape
        if picture.shape != shape:
            raise ConfigError(
                f"{path.stem} is {picture.shape[1]}x{picture.shape[0]} pixels and {first.stem} "
                f"{shape[1]}x{shape[0]}, and frames have one size; choose rows of one photo with --keys"
            )
        animation.require_fitting(out, n + 1, (shape[0], shape[1]), "rows (--keys, --limit)")
        yield picture
    if first is None:
        raise ConfigError("no row that is chosen has a latent, so there is nothing to draw")


def _pictures(
    latents: str,
    out: str,
    config: RenderConfig,
    done: Rendered,
    progress: Callable[[int], None],
) -> Iterator[tuple[Path, np.ndarray]]:
    """What is to be written where, drawn as it is asked for."""
    stems: dict[str, str] = {}
    renderer, first = None, dict[str, Any]()
    urls = sources(latents)
    flat = is_flat(urls)
    for url in urls:
        files, path = storage.filesystem(url)
        with opened(files, path) as source:
            record = footer(source.metadata, url)
            require_columns(source.schema_arrow, NEEDED, url)
            first = first or record
            require_same_run(first, record, url)
            if renderer is None:
                renderer = renderer_of(record, config, source.schema_arrow)
                done.pivots = pivots_of(latents, urls, record, config, renderer)
            name = shard_folder(str(record.get("shard")), os.path.basename(path), stems)
            goal = Path(out) if flat else Path(out, name)
            jobs = _jobs(source, goal, config, done, progress)
            columns = source.schema_arrow.names
            yield from _of_file(
                _chunks(jobs, config.batch_size), renderer, record, columns, config, done
            )
        if config.limit is not None and done.n_written + done.n_there >= config.limit:
            break


def is_flat(urls: Sequence[str]) -> bool:
    """Whether the rows of some files have names that are all different, so that no folder need part them.

    Many files, or many rows, are parted without a look: a folder of so many pictures is of no use.
    """
    taken: set[str] = set()
    for url in urls if 1 < len(urls) <= MAX_FLAT_FILES else ():
        with opened(*storage.filesystem(url)) as source:
            if not footer(source.metadata, url):
                break  # not ours: refused when it is drawn
            if len(taken) + source.metadata.num_rows > MAX_FLAT_ROWS:
                return False
            names, own = RowNames(), set[str]()
            columns = [name for name in NAMING if name in source.schema_arrow.names]
            require_columns(source.schema_arrow, NAMING[:3], url)
            for batch in source.iter_batches(columns=columns):
                own.update(names.path(row).lower() for row in as_dicts(batch))
        if taken & own:
            return False
        taken |= own
    return len(urls) <= MAX_FLAT_FILES


def renderer_of(record: dict[str, Any], config: RenderConfig, columns: pa.Schema) -> LatentRenderer:
    """What draws the rows of a folder, by the footer and columns of its first file."""
    if config.paste_back is not None:
        require_possible(record, columns.names, config.paste_back)
    config.framing.require_columns(columns.names, config.paste_back is not None)
    renderer = LatentRenderer(record, config)
    config.framing.require_model(renderer.model)
    return renderer


def pivots_of(
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
    wanted = [*COLUMNS, *(FOR_PASTE if config.paste_back is not None else ())]
    wanted += [] if done.pivots is None else [n for n in FOR_TUNING if n not in wanted]
    wanted += [n for n in FOR_FRAMING if config.unaligned and n not in wanted]
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
            else:
                done.first = done.first or goal
                if goal.exists():
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


def _of_file(
    chunks: Iterator[Sequence[Job]],
    renderer: LatentRenderer,
    record: dict[str, Any],
    columns: Sequence[str],
    config: RenderConfig,
    done: Rendered,
) -> Iterator[tuple[Path, np.ndarray]]:
    """The pictures of one file's rows."""
    pasting = None if config.paste_back is None else Pasting(config.pasting, record, columns)
    if pasting is not None:
        done.replaced = done.replaced or pasting.replaced
    tuned = None
    if done.pivots is not None:
        tuned = FilePivots(done.pivots, renderer, record, done.tunings)
    for chunk in chunks:
        rows = [job.row for job in chunk]
        drawn = drawn_rows(renderer, rows, tuned, config.framing)
        if pasting is not None:
            drawn = pasting(rows, drawn, lambda others: drawn_rows(renderer, others, tuned))
        for job, picture in zip(chunk, drawn, strict=True):
            yield job.path, images.sized(picture, config.size)


def drawn_rows(
    renderer: LatentRenderer,
    rows: Sequence[dict[str, Any]],
    tuned: FilePivots | None,
    framing: Framing = AS_DRAWN,
) -> list[np.ndarray]:
    """A picture of each row; those of one face are drawn together where the generator is tuned for it."""
    if tuned is None:
        latents = stacked([row["latent"] for row in rows])
        return renderer.draw(latents, None, framing.transforms(rows), framing.margins)
    pictures = []
    for _, group in groupby(rows, key=lambda row: (row["sample_index"], row["face"])):
        of_face = list(group)
        latents = stacked([row["latent"] for row in of_face])
        moved = framing.transforms(of_face), framing.margins
        pictures += renderer.draw(latents, tuned.of(of_face[0]), *moved)
    return pictures


def _save(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_bytes(path, data)
    except OSError as error:
        raise ConfigError(f"cannot write {path} ({error.strerror or error})") from None
