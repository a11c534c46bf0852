"""The numbers of a session as one JSON file, written after every measurement."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import torch

from generators.files import atomic

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"


class Record:
    """What is known so far. A file of the same card, code and settings is gone on with, part by part."""

    def __init__(self, path: Path, head: dict[str, Any]) -> None:
        self.path = path
        self.content: dict[str, Any] = {**head, "date": time.strftime("%Y-%m-%d"), "parts": {}}
        if path.exists():
            earlier = json.loads(path.read_text())
            if all(earlier.get(name) == value for name, value in head.items()):
                self.content["parts"] = earlier["parts"]

    def begin(self, part: str) -> None:
        self.content["parts"][part] = {"rows": []}

    def add(self, part: str, row: dict[str, Any]) -> None:
        self.content["parts"][part]["rows"].append(row)
        self.save()

    def end(self, part: str, **told: Any) -> None:
        self.content["parts"][part].update(told)
        self.save()

    def save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_bytes(self.path, f"{json.dumps(self.content, indent=1)}\n".encode())


def card(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def environment(device: torch.device, commit: str | None) -> dict[str, Any]:
    """What the numbers are of."""
    is_gpu = device.type == "cuda"
    query = ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    return {
        "card": card(device),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if is_gpu else None,
        "cudnn": torch.backends.cudnn.version() if is_gpu else None,
        "driver": _answer(*query).partition("\n")[0] or None if is_gpu else None,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "commit": commit or _commit(),
    }


def _commit() -> str | None:
    found = _answer("git", "rev-parse", "--short", "HEAD")
    is_changed = bool(_answer("git", "status", "--porcelain", "--untracked-files=no"))
    return f"{found}, changed" if found and is_changed else found or None


def _answer(*command: str) -> str:
    """What a program prints; nothing where it is missing or fails."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
