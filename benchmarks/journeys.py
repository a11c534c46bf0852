"""What people come for, each as a new user would do it, with its time.

    python -m benchmarks.journeys               # with the `restyle` of this environment
    python -m benchmarks.journeys --fresh       # in a clone that is set up first
    python -m benchmarks.journeys --only folder

Every line is a command in a shell, in an empty folder with photos in it; one that fails, or that fails to
refuse, ends the script. Where an older way leads to the same, it is timed too.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import labelled_photos
from benchmarks.inversion import cpu_name
from benchmarks.pipeline import write_photos

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "journeys.json"
N_LABELLED, N_FEW, N_MANY, SIDE = 60, 12, 1000, 512
NOTEBOOK = """
import time
from pipeline import Inverter
inverter = Inverter("demo", faces="largest")
inverter.invert("photo.jpg")
began = time.perf_counter()
face = inverter.invert("photo.jpg")[0]
print("one photo, warm:", round(time.perf_counter() - began, 3), "s")
face.edit("demo:smile", 5).paste_back().save("smiling.jpg")
face.strip().save("strip.jpg")
"""


@dataclass(frozen=True)
class Journey:
    """Commands, one after the other; ``before`` is what led to the same in earlier releases."""

    name: str
    what: str
    commands: tuple[str, ...]
    before: tuple[str, ...] = ()
    is_refused: bool = False


JOURNEYS = (
    Journey("models", "which models there are, and what a file is",
        ("restyle models", "restyle inspect demo")),
    Journey("one", "one photo from the command line, and a page of it",
        ("restyle invert photo.jpg --out one/ --save-images", "restyle report one/ --out one.html"),
        ("mkdir alone && cp photo.jpg alone/ && restyle pack alone/ 'alone/%06d.tar'",
         "restyle invert alone/000000.tar --out one_before/ --save-images --executor ray",
         "restyle report one_before/ --out one_before.html")),
    Journey("notebook", "one photo in a notebook: edit, paste back, strip",
        (f"{sys.executable} notebook.py",)),
    Journey("few", f"{N_FEW} photos",
        ("restyle invert few/ --out few_latents/",),
        ("restyle pack few/ 'few_shards/%06d.tar'",
         "restyle invert 'few_shards/*.tar' --out few_before/ --executor ray")),
    Journey("folder", f"{N_MANY} photos in a folder",
        ("restyle invert many/ --out many_latents/",),
        ("restyle pack many/ 'many_shards/%06d.tar' --samples 100",
         "restyle invert 'many_shards/*.tar' --out many_before/ --executor ray")),
    Journey("resume", "the same again, which finds it done",
        ("restyle invert many/ --out many_latents/", "restyle verify many_latents/")),
    Journey("labels", "labelled photos to a direction, edits, pictures in the photos",
        ("restyle invert labelled/ --out latents/ --keep-fields json --metrics mse,ms_ssim --save-images",
         "restyle learn-direction latents/ --label smile --condition yaw --out smile.safetensors",
         "restyle edit latents/ --out edited/ --direction smile.safetensors --strengths=-2,2 --save-images",
         "restyle report edited/ --out edited.html",
         "restyle render edited/ --out pasted/ --paste-back",
         "restyle interpolate latents/ 2 3 --out morph.gif")),
    Journey("compare", "three steps against five",
        ("restyle invert labelled/ --out three/ --keep-fields json --metrics mse,ms_ssim --steps 3",
         "restyle compare latents/ three/ --out compare.html")),
    Journey("parquet", "a table of images, as Hugging Face and img2dataset write them",
        ("restyle invert table.parquet --out from_table/ --keep-fields json",)),
    Journey("share", "latents for others: a Hugging Face folder, ReStyle's own file",
        ("restyle export latents/ --to hf --out shared/",
         "restyle export latents/ --to npy --out latents.npy")),
    Journey("wrong", "what is no input says so", ("restyle invert notes.txt --out wrong/",),
        is_refused=True),
)  # fmt: skip


def prepare(folder: Path) -> None:
    """Photos, labels and a table of images in a new user's folder."""
    photo = (ROOT / "pipeline" / "portraits" / "astronaut.jpg").read_bytes()
    (folder / "photo.jpg").write_bytes(photo)
    (folder / "notebook.py").write_text(NOTEBOOK)
    (folder / "notes.txt").write_text("not a photo\n")
    write_photos(folder / "few", N_FEW, SIDE)
    write_photos(folder / "many", N_MANY, SIDE)
    labelled_photos.write(folder / "labelled", [*map(str, range(N_LABELLED))], 128)
    paths = sorted((folder / "few").iterdir())
    pictures = [{"bytes": path.read_bytes(), "path": path.name} for path in paths]
    table = pa.table({"image": pictures, "caption": [f"portrait {i}" for i in range(len(paths))]})
    pq.write_table(table, folder / "table.parquet")


class Traveller:
    """Runs commands in a folder, as a shell of this environment would."""

    def __init__(self, folder: Path, bin_folder: Path) -> None:
        self._folder = folder
        path = f"{bin_folder}{os.pathsep}{os.environ['PATH']}"
        self._environment = {**os.environ, "PATH": path}
        self._environment.pop("RAY_ADDRESS", None)

    def seconds(self, command: str, is_refused: bool = False) -> float:
        """How long a command takes; SystemExit where it does not end as it should."""
        began = time.monotonic()
        done = self._run(command)
        taken = time.monotonic() - began
        if (done.returncode != 0) != is_refused:
            sys.exit(f"{command}\nended with status {done.returncode}:\n{done.stdout[-3000:]}")
        print(f"  {taken:6.1f} s  {command}", flush=True)
        return taken

    def killed(self, command: str, folder: str, again: Sequence[str]) -> float:
        """Kill a command when its first file has appeared, and give it again."""
        process = subprocess.Popen(
            command, shell=True, cwd=self._folder, env=self._environment,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        while process.poll() is None and not list((self._folder / folder).glob("*.parquet")):
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return sum(self.seconds(each) for each in again)

    def _run(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, shell=True, cwd=self._folder, env=self._environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip


def set_up(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Clone and `make demo` there: the folder of its commands, and how long that took."""
    clone = folder / "clone"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    taken = {}
    for name in ("set_up_and_demo_s", "demo_again_s"):
        subprocess.run(["rm", "-rf", str(clone / "demo")], check=True)
        began = time.monotonic()
        subprocess.run(["make", "demo"], cwd=clone, check=True, stdout=subprocess.DEVNULL)
        taken[name] = round(time.monotonic() - began, 1)
        print(f"  {taken[name]:6.1f} s  make demo", flush=True)
    return clone / ".venv" / "bin", taken


def travel(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Seconds of each journey."""
    found: dict[str, Any] = {"cpu": cpu_name(), "n_cpus": os.cpu_count()}
    commands = Path(sys.executable).parent
    if args.fresh:
        commands, taken = set_up(folder)
        found |= taken
    prepare(folder)
    traveller = Traveller(folder, commands)
    for journey in JOURNEYS:
        if args.only and journey.name not in args.only:
            continue
        print(f"{journey.name}: {journey.what}", flush=True)
        now = [traveller.seconds(command, journey.is_refused) for command in journey.commands]
        entry: dict[str, Any] = {"what": journey.what, "seconds": round(sum(now), 1)}
        if journey.before:
            before = [traveller.seconds(command) for command in journey.before]
            entry["before_s"] = round(sum(before), 1)
        found[journey.name] = entry
    if not args.only:
        again = "restyle invert 'many_shards/*.tar' --out killed/"
        seconds = traveller.killed(again, "killed", (again, "restyle verify killed/"))
        found["killed"] = {"what": "killed with its first file, continued", "seconds": seconds}
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Walk, print, write the results."""
    parser = argparse.ArgumentParser("benchmarks.journeys", description=__doc__)
    parser.add_argument("--fresh", action="store_true", help="in a clone that is set up first")
    parser.add_argument("--only", nargs="*", choices=[each.name for each in JOURNEYS])
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        found = travel(args, Path(folder))
    if not args.only:
        args.results.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
