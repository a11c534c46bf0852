"""An edit from its settings: refused before it starts, or ready for the engine that inverts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import storage
from pipeline.config import EDIT, OUTPUT, ClusterConfig, fingerprint, setting
from pipeline.editing import expression, pivots
from pipeline.editing.actor import RECORDED, EditorConfig
from pipeline.editing.pivots import PivotConfig, Pivots
from pipeline.editing.rows import Edits
from pipeline.engine import run_folder
from pipeline.engine.run import (
    RunPlan,
    absolute_file,
    concurrent_run,
    require_device,
    require_startable,
)
from pipeline.engine.run_folder import RunFolder
from pipeline.errors import ConfigError
from pipeline.latents import footer
from pipeline.latents.files import opened
from pipeline.latents.record import require_columns, require_present
from pipeline.latents.schema import latent_shape
from pipeline.latents.where import RowFilter
from pipeline.models import LatentRenderer, load_generating_model

COLUMNS = ("key", "sample_index", "face", "status", "error", "latent")  # that a source has
PROTOCOL = 1  # raised when the same settings would write other numbers or columns than before


@dataclass(frozen=True)
class EditConfig(PivotConfig):
    """Which edits, and how they are drawn."""

    directions: tuple[str, ...] = setting(
        (),
        "[NAME=][FACTOR*]FILE[:COMPONENT][@LAYERS], with sefa:COMPONENT or demo:NAME for a file too; terms "
        "joined by ' + '. May be given several times.",
        EDIT,
        flag="direction",
        many=True,
    )
    strengths: tuple[float, ...] = setting(
        (1.0,), "Comma-separated multiples of a direction.", EDIT
    )
    where: str | None = setting(
        None, "Only rows such as \"status == 'ok' and identity >= 0.4\". Default: all.", EDIT
    )
    save_images: bool = setting(False, "Draw every edit into the column reconstruction.", OUTPUT)

    def __post_init__(self) -> None:
        if not self.directions:
            raise ConfigError("nothing to do: pass --direction, such as --direction smile.pt")
        if not self.strengths or not np.isfinite(self.strengths).all():
            raise ConfigError("--strengths takes numbers with commas between them, such as -2,2")
        if len(set(self.strengths)) < len(self.strengths):
            raise ConfigError("--strengths has the same number twice")
        if self.pivot and not self.save_images:
            raise ConfigError(
                "--pivot changes how edits are drawn, not their latents: add --save-images, or leave it out"
            )


def plan_edit(
    latents: str,
    out: str,
    config: EditConfig,
    cluster: ClusterConfig,
    *,
    overwrite: bool = False,
    dry_run: bool = False,
) -> RunPlan:
    """Check source, directions and output. Deletes nothing; writes nothing if ``dry_run``.

    Args:
        latents: folder or prefix of a run of `restyle invert`.

    Raises:
        ConfigError, CheckpointError: one sentence that says what to do.
    """
    parsed = expression.parse_all(config.directions)
    urls = sources(latents)
    if storage.filesystem(out) == storage.filesystem(latents):
        raise ConfigError("--out is the folder that the latents are in; choose another one")
    columns, record = _first(urls[0])
    model, generator = absolute_file(config.model), absolute_file(config.generator)
    config = replace(config, model=model, generator=generator)
    _require_usable(config, columns, record, cluster)
    edits = _edits(config, parsed, columns, record)
    tuned = _pivots(latents, urls, record, config)
    settings = _settings(record, config, [one.signature() for one in parsed], tuned)
    tasks = [run_folder.task(url, storage.version(url), fingerprint(settings)) for url in urls]
    folder = RunFolder(out)
    folder.require_compatible(settings, overwrite)
    planned = folder.planned(tasks, overwrite)
    executor = require_startable(cluster, folder, planned.pending, dry_run)
    workers = EditorConfig(
        out=storage.absolute(out),
        edits=edits,
        columns=columns,
        where=config.where,
        source_fingerprint=record["fingerprint"],
        settings=settings,
        save_images=config.save_images,
        drawing=config,
        pivots=tuned,
    )
    other = concurrent_run(out, overwrite)
    now = planned.tasks, planned.pending, settings, overwrite
    found = planned.found
    return RunPlan(workers, out, *now, concurrent_run=other, found=found, executor=executor)


def sources(latents: str) -> list[str]:
    """Addresses of the Parquet files of a folder.

    Raises:
        ConfigError: there are none.
    """
    names = RunFolder(latents).committed()
    if not names:
        raise ConfigError(
            f"{storage.redact(latents)} holds no Parquet file; pass the --out of `restyle invert`"
        )
    address, mark, options = storage.absolute(latents).partition("?")
    return [f"{address.rstrip('/')}/{name}{mark}{options}" for name in names]


def _first(url: str) -> tuple[pa.Schema, dict[str, Any]]:
    """Columns and footer of one file; the workers see that the others have the same."""
    with opened(*storage.filesystem(url)) as source:
        columns, record = source.schema_arrow, footer(source.metadata, url)
    require_present(record, RECORDED, url)
    require_columns(columns, COLUMNS, url)
    if "direction" in columns.names:
        raise ConfigError(
            f"{storage.redact(url)} already holds edits; edit the latents that they were made from, "
            "with several directions joined by ' + '"
        )
    return columns, record


def _require_usable(
    config: EditConfig, columns: pa.Schema, record: Mapping[str, Any], cluster: ClusterConfig
) -> None:
    """Refuse here what the first worker would refuse."""
    if config.where is not None:
        RowFilter(config.where, columns)
    if config.save_images:
        load_generating_model(record, config.model, config.generator)
        require_device(config.precision, cluster)


def _pivots(
    latents: str, urls: list[str], record: Mapping[str, Any], config: EditConfig
) -> Pivots | None:
    """What edits are drawn with; refused where the generator would be tuned for many rows."""
    chosen = pivots.chosen(config, latents, record)
    if chosen is None or config.pivot_many:
        return chosen
    n_rows = pivots.n_selected(urls, where=config.where)
    if n_rows > pivots.MAX_ROWS:
        renderer = LatentRenderer(record, config)
        pivots.require_few(n_rows, chosen, config, renderer, "choose them with --where")
    return chosen


def _edits(
    config: EditConfig,
    parsed: list[expression.Expression],
    columns: pa.Schema,
    record: Mapping[str, Any],
) -> Edits:
    n_styles, w_dim = latent_shape(columns.field("latent"))
    vectors = [
        expression.resolve(
            one,
            n_styles,
            w_dim,
            lambda: load_generating_model(record, config.model, config.generator).generator,
        ).numpy()
        for one in parsed
    ]
    return Edits(tuple(one.name for one in parsed), np.stack(vectors), config.strengths)


def _settings(
    record: Mapping[str, Any], config: EditConfig, directions: list[str], tuned: Pivots | None
) -> dict[str, Any]:
    """The source's settings and hashes, which hold for the edits too, and what makes the edits."""
    added: dict[str, Any] = {
        "edit_directions": directions,
        "edit_strengths": list(config.strengths),
        "edit_images": config.precision if config.save_images else "none",
        "edit_protocol": PROTOCOL,
        "edit_source": record["fingerprint"],
    }
    if config.where is not None:
        added["edit_where"] = config.where
    if tuned is not None:
        added["edit_pivot"] = tuned.n_steps
        added["edit_pivot_settings"] = tuned.settings
    # What the edited files hold differs from the source's in these.
    # Which step was kept is the source's: `best` stays.
    kept = "best" if record["identity"].get("latents") == "best" else "last"
    changed = {"save_images": config.save_images, "latents": kept}
    return {**record["identity"], **changed, **added}
