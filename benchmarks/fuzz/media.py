"""Damaged tars and pictures for as long as wanted: how many were tried, and what became of them.

    python -m benchmarks.fuzz media --minutes 10

The cases and what must hold of them are those of the suite (tests/fuzzing.py), other ones each time.
Writes benchmarks/results/fuzz.json; exit status 1 where anything did not hold.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import PIL
from hypothesis import HealthCheck, Phase, given, seed, settings

ROOT = Path(__file__).parent.parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]
import fuzzing  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "fuzz.json"
ROUND = 200  # examples drawn under one seed


@dataclass
class Tally:
    """What became of the cases of one kind."""

    n: int = 0
    by_outcome: Counter[str] = field(default_factory=Counter)
    by_kind: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    slowest: str = ""

    def run(self, strategy: Any, check: Callable[[dict], str], kind: str, number: int) -> None:
        """One round; a case that does not hold is kept as hypothesis reduced it."""

        @seed(number)
        @settings(
            max_examples=ROUND,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=strategy)
        def round_(case: dict) -> None:
            start = time.perf_counter()
            self.by_outcome[check(case)] += 1
            seconds = time.perf_counter() - start
            self.n += 1
            self.by_kind[case[kind]] += 1
            if seconds > self.slowest_s:
                self.slowest_s, self.slowest = seconds, case[kind]

        try:
            round_()
        except Exception as error:
            notes = " ".join(getattr(error, "__notes__", []))
            self.failures.append(f"seed {number}: {type(error).__name__}: {error} {notes}"[:2000])

    def record(self) -> dict[str, Any]:
        return {
            "n": self.n,
            "by_outcome": dict(sorted(self.by_outcome.items())),
            "by_kind": dict(sorted(self.by_kind.items())),
            "slowest_s": round(self.slowest_s, 3),
            "slowest": self.slowest,
            "failures": self.failures,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, help="of the first round; random where left out")
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # Pillow's, of what is damaged
    number = random.SystemRandom().randrange(2**31) if args.seed is None else args.seed
    first, end = number, time.monotonic() + 60 * args.minutes
    tars, pictures = Tally(), Tally()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.tar"
        while time.monotonic() < end:
            tars.run(
                fuzzing.tars, lambda case: fuzzing.check_tar(case, path), "compression", number
            )
            pictures.run(fuzzing.pictures, fuzzing.check_picture, "kind", number)
            number += 1
    record = {
        "minutes": args.minutes,
        "first_seed": first,
        "n_rounds": number - first,
        "python": sys.version.split()[0],
        "pillow": PIL.__version__,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "tars": tars.record(),
        "pictures": pictures.record(),
    }
    RESULTS.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))
    if tars.failures or pictures.failures:
        sys.exit(1)


if __name__ == "__main__":
    main()
