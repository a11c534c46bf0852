"""What chaos is let loose on: small shards, a small model, jobs as real processes, outputs compared."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image

from benchmarks.chaos.processes import descendants, kill
from encoders import ReStyle, UNet, UNetConfig, save_inverter
from generators import Generator, GeneratorConfig
from pipeline.engine import audit

ROOT = Path(__file__).parent.parent.parent
SITE = Path(__file__).parent / "site"
CYAN, MAGENTA = (0, 255, 255), (255, 0, 255)  # see site/crashing
TIMEOUT_S = 900.0  # of one job; a job that hangs is a finding
N_CLOSE = 1e-4  # as two batch sizes differ


def write_model(path: Path) -> None:
    """A ReStyle inverter of 64 px with random weights, whose answers differ from image to image."""
    torch.manual_seed(0)
    config = GeneratorConfig(
        resolution=64, channels=(16, 16, 16, 8, 8), z_dim=16, w_dim=16, n_mapping_layers=2
    )
    encoder = UNet(UNetConfig(64, 10, 16, 6, widths=(16, 16, 16, 16, 16)))
    for parameter in encoder.parameters():
        if not parameter.abs().sum():
            torch.nn.init.normal_(parameter, std=0.05)
    save_inverter(path, ReStyle(encoder, Generator(config), torch.zeros(16), (64, 64)))


def _png(picture: Image.Image) -> bytes:
    data = io.BytesIO()
    picture.save(data, "png")
    return data.getvalue()


def write_shards(
    folder: Path, n_shards: int, n_samples: int, marked: Sequence[tuple[int, tuple]] = ()
) -> None:
    """Shards of small pictures, two samples of each shard without one that can be read.

    marked: shards whose third sample is plain in a colour that site/crashing crashes at.
    """
    folder.mkdir(parents=True)
    colours = dict(marked)
    for s in range(n_shards):
        source = np.random.default_rng(s)
        with tarfile.open(folder / f"{s:05}.tar", "w") as tar:
            for i in range(n_samples):
                coarse = source.integers(0, 256, (6, 8, 3), dtype=np.uint8)
                picture = Image.fromarray(coarse).resize((80, 60), Image.Resampling.BICUBIC)
                if i == 2 and s in colours:
                    picture = Image.new("RGB", (80, 60), colours[s])
                name, data = f"{s}/{i}.png", _png(picture)
                if i == 1:
                    data = data[: len(data) // 2]
                elif i == n_samples - 1:
                    name = f"{s}/{i}.txt"
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


@dataclass
class Job:
    """One `restyle invert` as a process."""

    process: subprocess.Popen
    log: Path  # what it printed

    def finish(self) -> int:
        """Its exit status.

        Raises:
            subprocess.TimeoutExpired: it hangs.
        """
        return self.process.wait(TIMEOUT_S)

    @property
    def text(self) -> str:
        return self.log.read_text()


@dataclass
class World:
    """Folder, input and model of a chaos run."""

    folder: Path
    n_shards: int
    n_samples: int
    jobs: list[Job] = field(default_factory=list)

    def prepare(self) -> None:
        write_model(self.folder / "model.safetensors")
        write_shards(self.folder / "shards", self.n_shards, self.n_samples)

    def start(
        self,
        out: str | Path,
        *options: str,
        shards: str = "shards",
        site: str | None = None,  # folder of a sitecustomize.py for every process of the job
        environment: dict[str, str] | None = None,
    ) -> Job:
        """Begin a job; its processes are a group of their own."""
        path = [str(SITE / site)] if site else []
        path += [str(ROOT), os.environ.get("PYTHONPATH", "")]
        words = f"-m jobs invert {shards} --out {out} --model model.safetensors --align none "
        words += "--metrics mse --steps 2 --batch-size 4 --actors 2"
        log = self.folder / f"job{len(self.jobs)}.log"
        with log.open("w") as sink:
            process = subprocess.Popen(
                [sys.executable, *words.split(), *options],
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path), **(environment or {})},
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.jobs.append(Job(process, log))
        return self.jobs[-1]

    def run(self, out: str | Path, *options: str, **named: str) -> Job:
        """A job from start to end, which must succeed."""
        job = self.start(out, *options, **named)  # type: ignore[arg-type]
        if job.finish():
            raise RuntimeError(f"a job failed: {job.text[-3000:]}")
        return job

    def clean(self) -> None:
        """Leave no process behind."""
        for job in self.jobs:
            if job.process.poll() is None:
                kill([job.process.pid, *descendants(job.process.pid)])
                job.process.wait()


def n_committed(out: Path) -> int:
    return len(list(out.glob("*.parquet")))


@dataclass(frozen=True)
class Difference:
    """What a disturbed run lost against the undisturbed one; all zero is what is wanted."""

    n_missing: int  # shards without a file
    n_surplus: int  # files that nobody asked for
    n_different: int  # files with other rows
    n_problems: int  # found by `restyle verify`
    n_identical: int  # files equal to the byte

    @property
    def is_clean(self) -> bool:
        return not (self.n_missing or self.n_surplus or self.n_different or self.n_problems)


def compare(out: Path, reference: Path) -> Difference:
    """Row for row."""
    found = {path.name: path for path in out.glob("*.parquet")}
    wanted = {path.name: path for path in reference.glob("*.parquet")}
    both = found.keys() & wanted.keys()
    unequal = [n for n in both if found[n].read_bytes() != wanted[n].read_bytes()]
    problems = [p for a in audit.verify(str(out), audit.files(str(out))) for p in a.problems]
    return Difference(
        n_missing=len(wanted.keys() - found.keys()),
        n_surplus=len(found.keys() - wanted.keys()),
        n_different=sum(not same_rows(found[name], wanted[name]) for name in unequal),
        n_problems=len(problems) + len(audit.missing(str(out))),
        n_identical=len(both) - len(unequal),
    )


def same_rows(path: Path, other: Path) -> bool:
    """Every column equal, latents and metrics to their last bits."""
    one, two = pq.read_table(path), pq.read_table(other)
    exact = [name for name in one.column_names if name not in ("latent", "mse")]
    if one.column_names != two.column_names or one.select(exact) != two.select(exact):
        return False
    for name in ("latent", "mse"):
        a, b = (np.array(t[name].drop_null().to_pylist(), np.float64) for t in (one, two))
        if a.shape != b.shape or not np.allclose(a, b, atol=N_CLOSE, rtol=0):
            return False
    return True
