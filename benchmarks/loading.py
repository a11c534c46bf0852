"""Time and memory of loading a full-size checkpoint, against reading its file.

    python benchmarks/loading.py [--repeats 5]

Made-up weights in the layout of restyle_psp_ffhq_encode.pt (IR-SE50, 18 style heads, StyleGAN2 of 1024 px),
and the same file converted to ours. Every measurement is a process of its own; the file is in the page cache
for all of them. To read it means to hold its bytes in memory. Memory is the highest use above that before,
as the kernel (Linux) counts it.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from encoders import load_inverter, save_inverter

ROOT = Path(__file__).parent.parent
SHAPES = ROOT / "tests" / "data" / "parity" / "restyle_psp_ffhq.json"
RESULTS = Path(__file__).parent / "results"


def write_checkpoint(path: Path) -> int:
    """A published file with made-up weights; returns the bytes of its tensors."""
    shapes = json.loads(SHAPES.read_text())["state_dict"]
    state = {name: torch.zeros(shape) for name, shape in shapes.items()}
    content = {
        "state_dict": state,
        "opts": {"encoder_type": "BackboneEncoder", "dataset_type": "ffhq_encode"},
        "latent_avg": torch.zeros(18, 512),
    }
    torch.save(content, path)
    return sum(tensor.nbytes for tensor in state.values())


def _resident(field: str) -> int:
    status = Path("/proc/self/status").read_text()
    found = re.search(rf"{field}:\s+(\d+)", status)
    return int(found[1]) * 1024 if found else 0


def measure(what: str, path: str) -> None:
    """One measurement of this process, printed as JSON."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the highest use so far
    before, start = _resident("VmRSS"), time.perf_counter()
    kept = Path(path).read_bytes() if what == "read" else load_inverter(path)
    seconds = time.perf_counter() - start
    print(json.dumps({"s": seconds, "bytes": _resident("VmHWM") - before}))
    del kept


def alone(what: str, path: Path, n: int) -> dict[str, float]:
    """Least time and largest memory of ``n`` fresh processes; other work only ever slows."""
    runs = []
    for _ in range(n):
        command = [sys.executable, __file__, "--measure", what, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        runs.append(json.loads(done.stdout))
    return {"s": min(run["s"] for run in runs), "bytes": max(run["bytes"] for run in runs)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--measure", nargs=2, metavar=("WHAT", "FILE"), help="used by itself")
    args = parser.parse_args()
    if args.measure:
        measure(*args.measure)
        return
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        files = {"published": Path(folder, "m.pt"), "ours": Path(folder, "m.safetensors")}
        n_bytes = write_checkpoint(files["published"])
        save_inverter(files["ours"], load_inverter(files["published"]))
        for name, path in files.items():
            floor, loaded = (alone(what, path, args.repeats) for what in ("read", "load"))
            rows[name] = {
                "file_mb": path.stat().st_size / 1e6,
                "read_s": floor["s"],
                "load_s": loaded["s"],
                "times_read": loaded["s"] / floor["s"],
                "memory_mb": loaded["bytes"] / 1e6,
                "times_tensors": loaded["bytes"] / n_bytes,
            }
            print(f"{name:10}" + "".join(f"  {k} {v:.2f}" for k, v in rows[name].items()))
    record = {"torch": torch.__version__, "tensors_mb": n_bytes / 1e6, **rows}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "loading.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
