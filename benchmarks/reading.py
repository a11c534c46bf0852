"""LatentDataset against pyarrow alone, reading the same rows of the same files.

    python benchmarks/reading.py [--rows 4096] [--repeats 5]

Made-up latents in FFHQ's shape (18 x 512 float32, 37 kB a row) in four files, in the page cache for both.
Either way ends in arrays that torch takes: pyarrow's read_table and to_batches, and NumPy views of their
buffers, are the floor. Ways take turns, the least time of each counts; other work only ever slows. Seconds of
CPU, of all threads, tell what a busy machine hides.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import torch
from torch.utils.data import DataLoader

from pipeline import LatentDataset
from pipeline.config import RunConfig
from pipeline.latents import schema
from pipeline.latents.schema import Row, dense
from pipeline.latents.writer import ShardWriter
from pipeline.records import AlignedFace, Status

RESULTS = Path(__file__).parent / "results"
N_FILES, BATCH = 4, 64
COLUMNS = ["latent", "key", "mse"]
FILTER = "status == 'ok' and mse < 0.5"  # half of the rows


def write(out: str, n_rows: int) -> None:
    """Rows as a run writes them, every sixteenth a failure."""
    columns = schema.schema(RunConfig(metrics=("mse",)), 18, 512)
    source = np.random.default_rng(0)
    for number in range(N_FILES):
        writer = ShardWriter(out, f"{number}.parquet", f"{number}.tar", columns)
        for i in range(n_rows // N_FILES):
            if i % 16 == 15:
                face = AlignedFace(i, f"{number}/{i}", Status.NO_FACE, "no face was found")
                writer.add([Row(face, face.status, face.error)])
                continue
            face = AlignedFace(i, f"{number}/{i}", Status.OK, face=0, n_faces=1)
            latents = source.standard_normal((1, 18, 512), dtype=np.float32)
            writer.add([Row(face, Status.OK, None, latents, {"mse": [float(source.random())]})])
        writer.commit({"fingerprint": "made up"})


def arrow_all(path: str) -> int:
    column = pq.read_table(path, columns=["latent"])["latent"].combine_chunks().drop_null()
    return len(torch.from_numpy(dense(column).copy()))


def arrow_filtered(path: str) -> int:
    found = pads.field("status") == "ok"
    table = pads.dataset(path).to_table(columns=["latent", "mse"], filter=found)
    is_low = pa.compute.less(pa.compute.list_element(table["mse"], 0), 0.5)
    column = table["latent"].filter(is_low).combine_chunks()
    return len(torch.from_numpy(dense(column).copy()))


def arrow_batches(path: str) -> int:
    """Batches of rows that are ok, as the floor of every loop over a data set."""
    n = 0
    found = pads.field("status") == "ok"
    for batch in pads.dataset(path).to_batches(columns=COLUMNS, filter=found, batch_size=BATCH):
        if len(batch):
            latent, key, mse = batch.columns
            read = dense(latent), key.to_pylist(), mse.flatten().to_numpy(zero_copy_only=False)
            n += len(read[0])
    return n


def total(batches: Iterable[dict]) -> int:
    return sum(len(batch["latent"]) for batch in batches)


def ways(path: str) -> dict[str, tuple[Callable[[], int], Callable[[], int]]]:
    """Name -> (pyarrow alone, ours); both return the number of rows, and both open the files."""

    def ok() -> LatentDataset:
        return LatentDataset(path, where="status == 'ok'", columns=COLUMNS)

    def alone() -> int:
        return arrow_batches(path)

    return {
        "latents()": (lambda: arrow_all(path), lambda: len(LatentDataset(path).latents())),
        "latents() where": (
            lambda: arrow_filtered(path),
            lambda: len(LatentDataset(path, where=FILTER).latents()),
        ),
        "stream, stored order": (alone, lambda: total(ok().stream(BATCH))),
        "stream, shuffled": (alone, lambda: total(ok().stream(BATCH, shuffle=True))),
        "DataLoader of the stream": (
            alone,
            lambda: total(DataLoader(ok().stream(BATCH, shuffle=True), batch_size=None)),
        ),
        "DataLoader of rows": (alone, lambda: total(DataLoader(ok(), batch_size=BATCH))),
    }


def seconds(way: Callable[[], int]) -> tuple[float, float, int]:
    """By the clock, of CPU, and the number of rows."""
    start, start_cpu = time.perf_counter(), time.process_time()
    n = way()
    return time.perf_counter() - start, time.process_time() - start_cpu, n


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        write(folder, args.rows)
        n_bytes = sum(file.stat().st_size for file in Path(folder).glob("*.parquet"))
        for name, pair in ways(folder).items():
            runs = [[seconds(way) for way in pair] for _ in range(args.repeats)]
            counts = {n for run in runs for *_, n in run}
            assert len(counts) == 1, f"{name}: other rows than pyarrow, {counts}"
            floor, ours = (min(run[i][0] for run in runs) for i in range(2))
            floor_cpu, ours_cpu = (min(run[i][1] for run in runs) for i in range(2))
            rows[name] = {
                "pyarrow_s": floor,
                "ours_s": ours,
                "times_pyarrow": ours / floor,
                "times_pyarrow_cpu": ours_cpu / floor_cpu,
            }
            print(f"{name:26}" + "".join(f"  {k} {v:.2f}" for k, v in rows[name].items()))
    record = {
        "pyarrow": pa.__version__,
        "torch": torch.__version__,
        "cpus": os.cpu_count(),
        "rows": args.rows,
        "file_mb": n_bytes / 1e6,
        "ways": rows,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "reading.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
