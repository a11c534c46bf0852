"""Which rows the generator is tuned for (`encoders.pivotal`), in how many steps, and where that is kept."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from encoders import auxiliary
from encoders.metrics.perceptual import LPIPS
from encoders.pivotal import TuningConfig, tune
from generators.files.checkpoint import tensors_sha256
from pipeline import storage
from pipeline.config import RUN_FOLDER, setting
from pipeline.errors import ConfigError
from pipeline.latents.files import opened
from pipeline.latents.names import plain_key
from pipeline.latents.record import require_columns
from pipeline.latents.where import RowFilter
from pipeline.models import DrawConfig, LatentRenderer
from pipeline.storage.folder import Folder

PIVOT = "Pivotal tuning"  # heading of the flags
FOLDER = f"{RUN_FOLDER}/pivots"  # beside the rows
PROTOCOL = 1  # raised when the same settings would tune to other weights than before
MAX_ROWS = 100  # that are tuned without --pivot-many
MAX_STEPS = 10_000


@dataclass(frozen=True, kw_only=True)
class PivotConfig(DrawConfig):
    """How rows are drawn, and whether the generator is tuned for each of them."""

    pivot: int | None = setting(
        None,
        "Tune the generator in so many steps (such as 100) to the picture of each selected row, and draw the "
        "row with it: pivotal tuning, for tens of images. 0: draw edits without the tuning that they were "
        "made with. Default: edits as they were made, other rows without.",
        PIVOT,
        least=0,
        most=MAX_STEPS,
    )
    pivots: str | None = setting(
        None, f"Local folder of the tuned weights. Default: {FOLDER} in the folder LATENTS.", PIVOT
    )
    pivot_many: bool = setting(False, f"Tune also for more than {MAX_ROWS} rows.", PIVOT)
    pivot_lpips: float = setting(
        0.0,
        "Weight of LPIPS in what the tuning makes small, beside the squared error.",
        PIVOT,
        least=0,
    )
    lpips_weights: str | None = setting(
        None, "For --pivot-lpips: torchvision's alexnet or vgg16 file.", PIVOT
    )
    lpips_heads: str | None = setting(
        None, "For --pivot-lpips: its own weights, alex.pth or vgg.pth.", PIVOT
    )
    photos: str | None = setting(
        None,
        "Folder or address of the shards, or folder of the photos, to tune to photos at full size. "
        "Default: the saved crops, or the shards where they were inverted, on this machine.",
        PIVOT,
    )


@dataclass(frozen=True)
class Lpips:
    """LPIPS as a part of what a tuning makes small."""

    weight: float
    backbone: str  # its two files
    heads: str

    def load(self) -> LPIPS:
        """The network, on the CPU.

        Raises:
            CheckpointError: files that cannot be used.
        """
        return auxiliary.load_lpips(self.backbone, self.heads)


@dataclass(frozen=True)
class Pivots:
    """Which deltas rows of a run are drawn with; travels to workers."""

    folder: str  # local and absolute
    n_steps: int
    photos: str | None  # where the shards lie, as the user says
    of_edits: bool  # whose own deltas must be there: where their pivots were, the rows do not say
    settings: str  # of the tuning, but for its steps: what a delta's file must state
    lpips: Lpips | None = None  # added to what is made small

    @property
    def tuning(self) -> TuningConfig:
        return TuningConfig(n_steps=self.n_steps)


def _settings(tuning: TuningConfig, lpips: Lpips | None) -> str:
    """All of a tuning but for its steps, as its file and the settings of an edit name it."""
    text = f"{PROTOCOL}: rank {tuning.rank}, rate {tuning.lr:g}, locality {tuning.locality:g}"
    if lpips is None:
        return text
    digest = tensors_sha256(lpips.load().state_dict())
    return f"{text}, lpips {lpips.weight:g} of {digest[:12]}"


def _lpips(config: PivotConfig) -> Lpips | None:
    if not config.pivot_lpips:
        return None
    if config.lpips_weights is None or config.lpips_heads is None:
        raise ConfigError(
            f"--pivot-lpips needs --lpips-weights, {auxiliary.LPIPS_BACKBONE_FILES}, and --lpips-heads, "
            f"{auxiliary.LPIPS_HEAD_FILES}"
        )
    files = (os.path.abspath(path) for path in (config.lpips_weights, config.lpips_heads))
    return Lpips(config.pivot_lpips, *files)


def chosen(config: PivotConfig, latents: str, record: Mapping[str, Any]) -> Pivots | None:
    """The pivots that rows of a folder are to be drawn with; None: by the run's own generator.

    Args:
        record: footer of one of its files.

    Raises:
        ConfigError: they cannot be kept where the rows are.
    """
    identity = record.get("identity", {})
    of_edits = "edit_directions" in identity
    n_steps = config.pivot
    if n_steps is None and of_edits:
        n_steps = identity.get("edit_pivot")
    if not n_steps:
        if config.pivots is not None and config.pivot is None:
            raise ConfigError("--pivots goes with --pivot, such as --pivot 100")
        return None
    if n_steps > MAX_STEPS:
        raise ConfigError(f"these edits state a tuning of {n_steps} steps; the folder is damaged")
    path = _local(latents if config.pivots is None else config.pivots)
    if config.pivots is None:
        path = os.path.join(path, FOLDER)
    photos = None if config.photos is None else storage.absolute(config.photos)
    lpips, stated = _lpips(config), identity.get("edit_pivot_settings") if of_edits else None
    settings = stated or _settings(TuningConfig(n_steps), lpips)
    return Pivots(path, n_steps, photos, of_edits, settings, lpips)


def _local(address: str) -> str:
    """The path of a folder of this machine.

    Raises:
        ConfigError: it is elsewhere.
    """
    is_elsewhere = storage.is_remote(address) and not address.startswith("file://")
    if is_elsewhere or not (folder := Folder(address)).is_local:
        raise ConfigError(
            f"tuned weights are kept in a local folder, not in {storage.redact(address)}; pass one as "
            "--pivots"
        )
    return os.path.abspath(folder.path)


def require_few(
    n_rows: int, pivots: Pivots, config: PivotConfig, renderer: LatentRenderer, advice: str
) -> None:
    """Refuse to tune for many rows unless that is confirmed.

    Args:
        advice: how fewer are selected.

    Raises:
        ConfigError: says how long it would take, on this machine.
    """
    if n_rows <= MAX_ROWS or config.pivot_many or pivots.of_edits:
        return
    each = seconds_per_row(renderer, pivots.n_steps)
    raise ConfigError(
        f"{n_rows:,} rows are selected, and --pivot tunes the generator for each of them by itself, which "
        f"takes about {duration(each)} per row on this machine, {duration(n_rows * each)} in all; it is "
        f"meant for tens of images: {advice}, or pass --pivot-many to do it all the same"
    )


def seconds_per_row(renderer: LatentRenderer, n_steps: int) -> float:
    """How long the tuning for one row takes here, measured by a few steps."""
    model = renderer.model
    picture = torch.zeros(3, *renderer.size)
    taken = []
    for n in (1, 4):
        start = time.monotonic()
        tune(model, model.latent_avg, picture, TuningConfig(n_steps=n))
        taken.append(time.monotonic() - start)
    first, more = taken
    return first + max(more - first, 0.0) / 3 * (n_steps - 1)


def duration(seconds: float) -> str:
    """Such as ``3 hours``: for people."""
    for size, unit in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(1, round(seconds))} s"


def n_selected(
    urls: Sequence[str], keys: frozenset[str] = frozenset(), where: str | None = None
) -> int:
    """Rows with a latent that are selected in these files.

    Args:
        keys: as `plain_key` gives them; none: all.
        where: a filter as of :class:`RowFilter`; None: all.
    """
    n = 0
    for url in urls:
        with opened(*storage.filesystem(url)) as source:
            require_columns(source.schema_arrow, ("key", "status"), url)
            filter_ = None if where is None else RowFilter(where, source.schema_arrow)
            columns = {"key", "status", *(() if filter_ is None else filter_.columns)}
            for batch in source.iter_batches(columns=sorted(columns)):
                is_meant = pc.equal(batch.column("status"), "ok").to_numpy(zero_copy_only=False)
                if filter_ is not None:
                    is_meant = is_meant & filter_.mask(pa.Table.from_batches([batch]))
                if keys:
                    names = batch.column("key").to_pylist()
                    is_meant = is_meant & np.array(
                        [plain_key(name) in keys for name in names], bool
                    )
                n += int(is_meant.sum())
    return n
