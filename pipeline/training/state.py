"""A training run on disk: written whole or not at all, and refused where other settings wrote it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from generators.files import atomic
from pipeline.config import require_same_settings
from pipeline.errors import ConfigError
from pipeline.storage import strict_json

STATE = "state.pt"
SETTINGS = "settings.json"
# Settings that had another name until release 0.2; old folders and scripts have those.
RENAMED = {
    "structure": "ms_ssim",
    "square": "l2",
    "near": "pull",
    "matching": "features",
    "disturbed": "disturb",
    "levels": "n_levels",
    "mapping_layers": "n_mapping_layers",
    "rate_generator": "generator_learning_rate",
    "rate_encoder": "encoder_learning_rate",
    "rate_critic": "discriminator_learning_rate",
    "critic_learning_rate": "discriminator_learning_rate",
    "critic_channels": "discriminator_channels",
    "critic_from": "discriminator_start",
    "r1": "r1_gamma",
}


def save(folder: Path, state: Mapping[str, Any]) -> None:
    """Write what a run goes on from."""
    with atomic.written(folder / STATE) as part:
        torch.save(dict(state), part)


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
            f"{path} cannot be read ({first[:160]}); delete it to start over, or copy it again"
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
        old = {RENAMED.get(k, k): v for k, v in _settings(path).items()}
        require_same_settings(
            kept(old, may_differ),
            kept(new, may_differ),
            f"{folder} contains a training run",
            "start from its weights: --start-from",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        atomic.write_bytes(path, json.dumps(new, indent=1).encode())
    except OSError as error:
        raise ConfigError(f"cannot write to {folder}: {error}") from None


def settings(folder: Path) -> dict[str, Any]:
    """Those of the run that :func:`claim` would go on; {} where none is there."""
    path = folder / SETTINGS
    return _settings(path) if path.exists() and (folder / STATE).exists() else {}


def _settings(path: Path) -> dict[str, Any]:
    try:
        found = strict_json.parsed(path.read_bytes())
        if not isinstance(found, dict):
            raise ValueError("it is not an object with entries")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path} does not hold the settings of a training run ({error}); copy it again from where the "
            "folder came from, or choose another --out"
        ) from None
    return found


def kept(settings: Mapping[str, Any], may_differ: frozenset[str]) -> dict[str, Any]:
    """The settings that must stay the same."""
    return {name: value for name, value in settings.items() if name not in may_differ}
