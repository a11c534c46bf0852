"""Damaged and hostile input through the readers and the commands: how much was tried, and what fell.

    python -m benchmarks.fuzz parquet --count 20000 --commands 100     goes on where the last run ended
    python -m benchmarks.fuzz parquet --only 1234                      one input again, with its traceback
    python -m benchmarks.fuzz parquet --retry                          what fell, after it was mended
    python -m benchmarks.fuzz table                                    the table of docs/reliability.md
    python -m benchmarks.fuzz media --minutes 10                       tars and pictures (media.py)

A fall is anything but a result or one sentence for the user: another error, a signal, more than 10 s or
3 GiB, something written outside the folder. Records are in benchmarks/results/fuzz/. Exit status 1 where any
input fell.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from benchmarks.fuzz import page, record, supervisor
from benchmarks.fuzz.outcome import NAMES


def main() -> None:
    if sys.argv[1:2] == ["media"]:
        from benchmarks.fuzz import media

        sys.argv.pop(1)
        return media.main()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=[*NAMES, "all", "table", "media"])
    parser.add_argument("--count", type=int, default=1000, help="inputs through the readers")
    parser.add_argument("--commands", type=int, default=0, help="inputs through commands")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", action="store_true", help="from the first input on")
    parser.add_argument("--retry", action="store_true", help="only what fell, after it was mended")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="one input of the readers")
    args = parser.parse_args()
    if args.kind == "table":
        return page.write()
    if args.only is not None:
        return _only(args.kind, args.seed, args.only)
    n_fell = 0
    for kind in NAMES if args.kind == "all" else [args.kind]:
        for way, count in (("read", args.count), ("commands", args.commands)):
            found = record.Record(kind, way, args.seed) if args.again else None
            found = found or record.read(kind, way, args.seed)
            found = supervisor.retry(found) if args.retry else supervisor.run(found, count)
            n_fell += found.by_outcome["fell"]
            if found.n:
                print(f"{kind} {way}: {found.n} tried, {dict(found.by_outcome)}")
            for fall in found.falls:
                print(f"  {fall.n} x {fall.place} (first: {fall.first}): {fall.text[:160]}")
    return sys.exit(1 if n_fell else 0)


def _only(name: str, seed: int, number: int) -> None:
    from benchmarks.fuzz import kinds
    from benchmarks.fuzz.all_kinds import KINDS

    with tempfile.TemporaryDirectory() as folder:
        box, kind = Path(folder).resolve(), KINDS[name]
        originals = kind.originals(box)
        draw = kinds.draws(kind, seed, number)
        print(kinds.attempt(kind, draw, box, originals, shows=True))
        os.chdir("/")


if __name__ == "__main__":
    main()
