"""Folders of latents: small ones to begin with, and what reads them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random

from benchmarks.fuzz.outcome import ROOT
from pipeline import LatentDataset
from pipeline.engine import audit, progress
from pipeline.engine.run_folder import RunFolder, task

STORED = ROOT / "tests" / "data" / "old_runs"
MODEL = STORED / "tiny.safetensors"
FOLDERS = ("protocol3", "protocol1", "edits3")
WHERE = ("status == 'ok'", "mse < 0.5 and label_smile > 0", "n_steps in (1, 2)", "key == '00'")
Files = dict[str, bytes]  # of a folder, by their names below it


def originals(_: Path) -> dict[str, Files]:
    """Folders of latents by their names, each with the record of a run."""
    return {name: _files(STORED / name) for name in FOLDERS}


def _files(folder: Path) -> Files:
    files = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    run = progress.Progress(
        "20261201T115208Z-28ff8a",
        json.loads(files["_run/settings.json"]).get("fingerprint", "x"),
        "unfinished",
        "2026-12-01T11:52:08Z",
        1.8e9,
        "machine pid 7",
        10.5,
        n_asked=3,
        n_done=2,
        n_rows=6,
        n_by_status={"ok": 5, "decode_error": 1},
        n_samples=6,
        busy_s={"read": 0.5, "align": 1.5, "invert": 2.0, "wait": 0.1},
        workers=["d6ee6552 gpu none pid 8"],
        begun=[progress.ActiveShard("2.tar", "d6ee6552 gpu none pid 8", 3, 1.5)],
        n_failed=1,
        failures=[{"shard": "2.tar", "error": "cut short"}],
    )
    content = json.dumps({**vars(run), "begun": [vars(shard) for shard in run.begun]}).encode()
    return files | {"_run/progress.json": content, f"_run/runs/{run.run}.json": content}


def put(files: Files, folder: Path) -> None:
    """Write the files of a folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def _dataset(_: Random, given: Path) -> None:
    rows = LatentDataset(given / "lat")
    for row in rows:
        assert set(row) == set(rows.columns)
    if len(rows):
        assert rows[-1]["key"] == rows[len(rows) - 1]["key"]


def _latents(_: Random, given: Path) -> None:
    rows = LatentDataset(given / "lat", where="status == 'ok'")
    assert len(rows.latents()) <= len(rows)
    assert rows.latent_avg.ndim


def _stream(_: Random, given: Path) -> None:
    for batch in LatentDataset(given / "lat").stream(2, shuffle=True):
        assert batch


def _where(draw: Random, given: Path) -> None:
    len(LatentDataset(given / "lat", where=draw.choice(WHERE)))


def _resumed(_: Random, given: Path) -> None:
    folder = RunFolder(str(given / "lat"))
    folder.settings()
    folder.planned([task("pipe:cat 0.tar", "", "x"), task("new.tar", "size=3", "x")])
    folder.require_compatible({"steps": 2}, overwrite=False)


def _audited(_: Random, given: Path) -> None:
    lat = str(given / "lat")
    audit.status(lat)
    audit.with_rows(lat, audit.files(lat), {"ok"})
    progress.throughput(lat, "x")
    progress.concurrent_run(lat)


READERS: tuple[Callable[[Random, Path], object], ...] = (
    _dataset,
    _latents,
    _stream,
    _where,
    _resumed,
    _audited,
)


def words(draw: Random, given: Path) -> list[str]:
    """A command that reads the folder ``lat``, cheap ones more often."""
    box = given.parent
    lat, out = str(given / "lat"), box / "out"
    model = ["--model", str(MODEL)]
    commands = {
        "status": [],
        "verify": [],
        "npy": ["export", lat, "--to", "npy", "--out", str(out / "x.npy")],
        "pt": ["export", lat, "--to", "pt", "--out", str(out / "pt")],
        "pairs": ["export", lat, "--to", "pairs", "--out", str(out / "%06d.tar")],
        "forget": ["invert", "--forget", "*2.tar", "--out", lat, "--dry-run"],
        "learn": ["learn-direction", lat, "--label", "smile", "--out", str(out / "d.safetensors")],
        "edit": [
            "edit", lat, "--out", str(out / "edited"), "--direction", "sefa:0", "--dry-run", *model,
        ],
        "report": ["report", lat, "--out", str(out / "r.html"), "--limit", "2", *model],
        "compare": [
            "compare", str(STORED / "protocol3"), lat, "--resamples", "100", "--out", str(out / "c.html"),
        ],
        "render": ["render", lat, "--out", str(out / "pictures"), "--limit", "1", *model],
        "interpolate": ["interpolate", lat, "00", "01", "--steps", "1", "--out", str(out / "f"), *model],
    }  # fmt: skip
    weights = (4, 4, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1)
    [name] = draw.choices(list(commands), weights)
    return commands[name] or [name, lat]


def chosen(draw: Random, made: dict[str, Files]) -> Files:
    """The files of one of the folders, to be changed."""
    return dict(made[draw.choices(FOLDERS, (3, 1, 1))[0]])


def a_parquet(draw: Random, files: Files) -> str:
    """The name of one of its Parquet files."""
    return draw.choice([name for name in files if name.endswith(".parquet")])


def without_record(files: Files, draw: Random) -> None:
    """Now and then a folder comes without `_run/`."""
    if draw.random() < 0.3:
        for name in [name for name in files if name.startswith("_run/")]:
            del files[name]
