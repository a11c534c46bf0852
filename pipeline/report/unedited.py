"""The latents that a folder of edits was made from: its own rows tell them, or the folder that was edited."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.engine.run_folder import RunFolder
from pipeline.errors import ConfigError, ShardError
from pipeline.latents import footer
from pipeline.report import source
from pipeline.report.source import File, Run
from pipeline.shards.photos import trusted


def latents(run: Run, rows: Sequence[Mapping[str, Any]]) -> list[np.ndarray | None]:
    """Of each source row its latent [n_styles, w_dim] before it was edited; None where it cannot be had.

    Args:
        rows: the edits of some source rows, those of one after those of another.
    """
    n = run.n_edits
    if len(run.strengths) > 1:
        return [_between(rows[i : i + n], run.strengths) for i in range(0, len(rows), n)]
    firsts = rows[::n]
    found: list[np.ndarray | None] = [None] * len(firsts)
    for shard in dict.fromkeys(row["shard"] for row in firsts):
        of_shard = [i for i, row in enumerate(firsts) if row["shard"] == shard]
        for i, latent in zip(of_shard, _stored(run, [firsts[i] for i in of_shard]), strict=True):
            found[i] = latent
    return found


def _between(edits: Sequence[Mapping[str, Any]], strengths: Sequence[float]) -> np.ndarray | None:
    """What lies at strength 0 of the first direction: an edit adds its strength times a direction."""
    # The two that differ most: rounding counts least.
    low, high = int(np.argmin(strengths)), int(np.argmax(strengths))
    first, last = edits[low]["latent"], edits[high]["latent"]
    if first is None or last is None:
        return None
    share = strengths[low] / (strengths[high] - strengths[low])
    return first - share * (last - first)


def _stored(run: Run, firsts: Sequence[Mapping[str, Any]]) -> list[np.ndarray | None]:
    """Latents of rows of one shard, from the file that was edited, if that is unchanged on this machine."""
    nothing: list[np.ndarray | None] = [None] * len(firsts)
    name = next(file.name for file in run.files if file.shard == firsts[0]["shard"])
    asked = RunFolder(run.latents).shards() or []
    item = next((item for item in asked if item["output"] == name), None)
    if item is None or not item["identity"]:
        return nothing
    try:
        path = trusted(item["url"], None, item["identity"])
        folder, name = os.path.split(path)
        with RunFolder(folder).opened(name) as file:
            record, n_rows = footer(file.metadata, path), file.metadata.num_rows
            places = file.read(columns=["sample_index", "face"]).to_pylist()
        if record.get("fingerprint") != run.settings.get("edit_source"):
            return nothing
        numbers = {(p["sample_index"], p["face"]): i for i, p in enumerate(places)}
        wanted = [numbers[row["sample_index"], row["face"]] for row in firsts]
        edited = Run(folder, [File(name, "", "", n_rows)])
        return [row["latent"] for row in source.rows(edited, wanted, ["latents_by_step"])]
    except (ConfigError, ShardError, KeyError, OSError):
        return nothing
