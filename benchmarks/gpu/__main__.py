"""The networks alone on one GPU: speed by batch and precision, stages, floors, parity. Five minutes at most.

    python -m benchmarks.gpu                              # from the repository's root
    python -m benchmarks.gpu --only parity --only stages
    python -m benchmarks.gpu --baseline benchmarks/results/gpu_NVIDIA_H200.json
    python -m benchmarks.gpu --device cpu --small         # a rehearsal; its times say nothing of a GPU

Needs torch, numpy and safetensors; a C compiler and triton for what is compiled. Weights are made up, in the
layout of ReStyle-pSp for FFHQ at 1024 px. The numbers go to benchmarks/results/gpu_CARD.json after each
measurement, so that a session that is interrupted keeps them; with --only, the parts named are measured
again in a file of the same card, code and settings. What fails is a row with its error, what no time is
left for a row that says so.

On a machine that is lent for minutes: all at once first, then what is missing, each part with a limit.

    export TORCHINDUCTOR_CACHE_DIR=/tmp/inductor
    session="python -m benchmarks.gpu --out $OUT --commit $COMMIT"
    timeout 330 $session > $OUT/all.txt 2>&1
    for part in $($session --missing); do
        timeout 150 $session --only $part > $OUT/$part.txt 2>&1
    done
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu import ceilings, compile, metrics, parity, report, stages, throughput
from benchmarks.gpu.bench import SMALL, Bench, Sizes
from benchmarks.gpu.record import RESULTS, Record, card, environment
from benchmarks.gpu.timing import Clock

# By importance: the last ones are left out when time runs short. The ceilings take seconds.
PARTS: dict[str, Callable[[Bench], None]] = {
    "ceilings": ceilings.run,
    "compile": compile.run,
    "compiled": throughput.compiled,
    "graph": throughput.graph,
    "eager": throughput.eager,
    "reference": throughput.reference,
    "parity": parity.run,
    "stages": stages.run,
    "metrics": metrics.run,
    "sweep": throughput.sweep,
}
_LEAST_S = 5  # a part is not begun with less


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 1 where something failed or a number is wrong, after all was measured."""
    args = _parse(arguments)
    bench = _bench(args)
    found = bench.record.content["parts"]
    if args.missing:
        print(*(name for name in PARTS if not _is_done(found.get(name))))
        return 0
    for name in args.only or PARTS:
        _run(name, bench)
    print("\n" + "\n".join(report.lines(bench.record.content)))
    if args.baseline:
        earlier = json.loads(args.baseline.read_text())
        print("\n".join(report.ratios(bench.record.content, earlier)))
    print(f"\n{bench.record.path}")
    return int(any(_has_failed(found[name]) for name in args.only or PARTS))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    def numbers(text: str) -> tuple[int, ...]:
        return tuple(int(word) for word in text.split(",") if word)

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--device", type=torch.device, default="cuda")
    add("--small", action="store_true", help="a tiny model: a rehearsal")
    add("--only", action="append", choices=PARTS, help="measure this part; may be repeated")
    add("--budget", type=float, default=280, help="seconds for all; default: %(default)s")
    add("--batches", type=numbers, help="batches of every part, such as 16,1")
    add("--sweep", type=numbers, help="batches of the last part")
    add("--steps", type=int)
    add("--precisions", help="such as bf16,fp16; default: all that the device has")
    add("--compile", action="store_true", help="compile on a CPU too")
    add("--dlib-model", type=Path, help="dlib_face_recognition_resnet_model_v1.dat, to check")
    add("--out", type=Path, default=RESULTS, help="folder of the JSON; default: %(default)s")
    add("--baseline", type=Path, help="JSON of an earlier session to compare with")
    add("--commit", help="name of the code, where there is no git")
    add("--missing", action="store_true", help="only print which parts are not in the JSON yet")
    args = parser.parse_args(arguments)
    if args.device.type == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU that torch can use; --device cpu --small is a rehearsal")
    return args


def _bench(args: argparse.Namespace) -> Bench:
    is_gpu = args.device.type == "cuda"
    if "TORCHINDUCTOR_CACHE_DIR" not in os.environ and not args.missing:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = tempfile.mkdtemp(prefix="inductor-")
    given = {name: getattr(args, name) for name in ("batches", "sweep", "steps")}
    given = {name: value for name, value in given.items() if value is not None}
    sizes = replace(SMALL if args.small else Sizes(), **given)
    precisions = ("bf16", "fp16", "tf32", "fp32") if is_gpu else ("fp32", "bf16", "fp16")
    if args.precisions:
        precisions = tuple(args.precisions.split(","))
    settings: dict[str, Any] = {**asdict(sizes), "precisions": precisions, "small": args.small}
    settings = json.loads(json.dumps(settings))  # as it is read again
    head = {**environment(args.device, args.commit), "settings": settings}
    name = card(args.device).replace(" ", "_") + "_small" * args.small
    return Bench(
        device=args.device,
        sizes=sizes,
        precisions=precisions,  # type: ignore[arg-type]  # unknown ones fail where they are used
        record=Record(args.out / f"gpu_{name}.json", head),
        clock=Clock(args.budget),
        small=args.small,
        compiles=is_gpu or args.compile,
        dlib_model=args.dlib_model,
    )


def _run(name: str, bench: Bench) -> None:
    """One part, whatever becomes of it."""
    start, record = time.monotonic(), bench.record
    record.begin(name)
    told: dict[str, Any] = {}
    if bench.clock.left_s() < _LEAST_S:
        told["skipped"] = f"{max(0.0, bench.clock.left_s()):.0f} s are left"
    elif name in ("compile", "compiled") and not bench.compiles:
        told["skipped"] = "on a CPU, which only --compile compiles for"
    elif name == "graph" and not bench.is_gpu:
        told["skipped"] = "on a CPU, which has no CUDA graphs"
    else:
        try:
            PARTS[name](bench)
        except Exception as error:
            traceback.print_exc(file=sys.stdout)
            told["failed"] = f"{type(error).__name__}: {str(error).strip()[:500]}"
    for word in ("skipped", "failed"):
        if word in told:
            print(f"{name:10} {word}: {told[word]}", flush=True)
    record.end(name, **told, seconds=round(time.monotonic() - start, 2))


def _has_failed(part: dict[str, Any]) -> bool:
    rows = part["rows"]
    return "failed" in part or any("failed" in row or row.get("holds") is False for row in rows)


def _is_done(part: dict[str, Any] | None) -> bool:
    """Whether nothing of it is missing: it ended, and no row was skipped or failed."""
    if part is None or "seconds" not in part or {"failed", "skipped"} & part.keys():
        return False
    return not any({"failed", "skipped"} & row.keys() for row in part["rows"])


if __name__ == "__main__":
    # From `timeout`: what was started ends with this.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main())
