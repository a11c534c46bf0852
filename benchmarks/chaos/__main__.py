"""Every fault at random moments of a run, and what was lost: row for row against an undisturbed run.

    python -m benchmarks.chaos [--quick] [--faults actor,driver] [--seed 0]

Exits with status 1 where anything differs. Without --quick and --faults the numbers go to
benchmarks/results/chaos.json and into docs/reliability.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.chaos import clusters, faults, page, samples, storage
from benchmarks.chaos.faults import Tally, Trial
from benchmarks.chaos.world import World, compare

# Fault, and how often it is injected in the long run and in the quick one (0: left out).
FAULTS: dict[str, tuple[Callable[[Trial], None], int, int]] = {
    "actor": (faults.actor, 25, 0),
    "cpu_worker": (faults.cpu_worker, 50, 0),
    "driver": (faults.driver, 8, 0),
    "node": (clusters.node, 8, 0),
    "head": (clusters.head, 2, 0),
    "sigterm": (faults.sigterm, 6, 0),
    "ctrl_c": (faults.ctrl_c, 6, 0),
    "in_turn": (faults.in_turn, 2, 1),
    "crash": (samples.crash, 9, 0),
    "disk_full": (storage.full, 4, 0),
    "read_only": (storage.read_only, 4, 0),
    "clock": (faults.clock, 1, 0),
    "two_at_once": (faults.two_at_once, 1, 0),
}
# Shards, samples in each, and seconds at most between what a fault waits for and the fault.
LONG, QUICK = (200, 8, 0.3), (24, 6, 0.2)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few shards, some faults")
    parser.add_argument("--faults", default="", help="comma-separated, of " + ", ".join(FAULTS))
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def _try(world: World, name: str, times: int, seed: int, respite_s: float) -> dict[str, Any]:
    """One fault; its row of the table."""
    function = FAULTS[name][0]
    what = (function.__doc__ or name).splitlines()[0]
    if function in (storage.full, storage.read_only) and not storage.may_mount():
        return {"fault": name, "what": what, "skipped": "needs root to mount a small disk"}
    chance = random.Random(f"{seed} {name}")
    trial = Trial(world, world.folder / name, times, chance, Tally(), respite_s)
    begin = time.monotonic()
    function(trial)
    reference = "undisturbed"
    if name == "crash":  # its shards are others
        reference = "undisturbed_marked"
        world.run(reference, shards="marked")
    found = compare(trial.out, world.folder / reference)
    complaints = trial.tally.complaints or []
    seconds = round(time.monotonic() - begin, 1)
    counts = {"n_injected": trial.tally.n_injected, "n_jobs": trial.tally.n_jobs}
    return {
        "fault": name, "what": what, **counts, **asdict(found), "seconds": seconds,
        "is_clean": found.is_clean and not complaints, "complaints": complaints,
        "slowest_s": trial.tally.slowest_s,
    }  # fmt: skip


def main() -> None:
    """Run them all."""
    options = _parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # jobs are ended on the way out
    chosen = [name for name in options.faults.split(",") if name] or list(FAULTS)
    n_shards, n_samples, respite_s = QUICK if options.quick else LONG
    begin, trials = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="chaos") as folder:
        world = World(Path(folder), n_shards, n_samples)
        try:
            world.prepare()
            world.run("undisturbed")
            for name in chosen:
                times = FAULTS[name][2 if options.quick else 1]
                if times or options.faults:
                    trials.append(_try(world, name, max(1, times), options.seed, respite_s))
                    print(json.dumps(trials[-1]), flush=True)
        finally:
            world.clean()
    result = {
        "n_shards": n_shards, "n_samples": n_samples, "seed": options.seed, "machine": _machine(),
        "minutes": (time.monotonic() - begin) / 60, "trials": trials,
    }  # fmt: skip
    if not (options.quick or options.faults):
        (page.RESULTS / "chaos.json").write_text(json.dumps(result, indent=1) + "\n")
        page.write()
    bad = [trial["fault"] for trial in trials if not trial.get("is_clean", True)]
    print(
        f"{len(trials)} faults, " + (f"not survived: {', '.join(bad)}" if bad else "nothing lost")
    )
    sys.exit(bool(bad))


def _machine() -> str:
    return f"{os.cpu_count()} CPUs, {platform.system()}, Python {platform.python_version()}"


if __name__ == "__main__":
    main()
