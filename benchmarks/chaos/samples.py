"""Samples that kill every process that works on them, among shards that do not."""

from __future__ import annotations

import pyarrow.parquet as pq

from benchmarks.chaos.faults import Trial
from benchmarks.chaos.world import CYAN, MAGENTA, n_committed, write_shards

# Of so many marked samples one kills an actor, which loads for seconds; the others kill CPU workers.
N_PER_ACTOR = 3


def crash(trial: Trial) -> None:
    """A native crash at one sample; then the library is mended, and `--retry-failed`."""
    world, folder = trial.world, trial.world.folder / "marked"
    shards = sorted(trial.chance.sample(range(world.n_shards), trial.times))
    colours = [MAGENTA if i % N_PER_ACTOR == 0 else CYAN for i in range(len(shards))]
    write_shards(folder, world.n_shards, world.n_samples, list(zip(shards, colours, strict=True)))
    mended = world.folder / "mended"
    options = {"shards": "marked", "site": "crashing", "environment": {"CHAOS_MENDED": str(mended)}}
    trial.end(trial.start(**options))  # type: ignore[arg-type]
    trial.tally.n_injected += len(shards)
    crashed = _crashed(trial)
    if crashed != [(f"{s}/2", s) for s in shards]:
        trial.tally.complain(f"crashed rows are {crashed}, not those of shards {shards}")
    mended.touch()
    trial.end(trial.start("--retry-failed", **options))  # type: ignore[arg-type]
    if _crashed(trial) or n_committed(trial.out) != world.n_shards:
        trial.tally.complain("crashed rows are left once the library is mended")


def _crashed(trial: Trial) -> list[tuple[str, int]]:
    """Key and shard of every row with the status `crashed`."""
    table = pq.read_table(trial.out, columns=["key", "status"]).to_pylist()
    keys = [row["key"] for row in table if row["status"] == "crashed"]
    return sorted(((key, int(key.split("/")[0])) for key in keys), key=lambda pair: pair[1])
