"""A training run on disk: written whole or not at all, and refused where other settings wrote it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from generators.files.checkpoint import write_whole
from pipeline.config import difference
from pipeline.errors import ConfigError

STATE = "state.pt"
SETTINGS = "settings.json"


def save(folder: Path, state: Mapping[str, Any]) -> None:
    """Write what a run goes on from."""
    write_whole(folder / STATE, lambda temporary: torch.save(dict(state), temporary))


def load(folder: Path) -> dict[str, Any] | None:
    """What :func:`save` wrote last; None where nothing was.

    Raises:
        ConfigError: it cannot be read.
    """
    path = folder / STATE
    if not path.exists():
        return None
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails in many ways inside torch's readers
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(
            f"{path} cannot be read ({first[:160]}); delete it to begin again, or copy it again"
        ) from None


def claim(folder: Path, settings: Mapping[str, Any], may_differ: frozenset[str]) -> None:
    """Make the folder this run's.

    Args:
        settings: plain data: what decides the weights.
        may_differ: names of settings that may change between two stretches of a run.

    Raises:
        ConfigError: the folder is another run's; the differences are named.
    """
    path = folder / SETTINGS
    new = json.loads(json.dumps(settings))
    if path.exists() and (folder / STATE).exists():
        old = json.loads(path.read_text())
        if kept(old, may_differ) != kept(new, may_differ):
            changes = difference(_short(kept(old, may_differ)), _short(kept(new, may_differ)))
            raise ConfigError(
                f"{folder} holds a training of other settings ({changes}); choose another --out, or "
                "begin with its weights: --start-from"
            )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, partial(_write_json, new))
    except OSError as error:
        raise ConfigError(f"cannot write to {folder}: {error}") from None


def _write_json(content: Any, path: Path) -> None:
    path.write_text(json.dumps(content, indent=1))


def _short(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Long lists, as those of shards, by their length and a hash, for people."""
    return {
        name: f"{len(value)} ({sha256(json.dumps(value).encode()).hexdigest()[:8]})"
        if isinstance(value, list) and len(value) > 8
        else value
        for name, value in settings.items()
    }


def kept(settings: Mapping[str, Any], may_differ: frozenset[str]) -> dict[str, Any]:
    """The settings that must stay the same."""
    return {name: value for name, value in settings.items() if name not in may_differ}
