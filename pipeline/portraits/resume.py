"""A training run on disk: everything that its attributes hold, written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import torch


def save(run: object, path: Path) -> None:
    """Write every attribute of a run; networks and optimizers as their state dicts."""
    parts = {
        name: part.state_dict() if hasattr(part, "state_dict") else part
        for name, part in vars(run).items()
    }
    temporary = path.with_suffix(".tmp")
    torch.save(parts, temporary)
    os.replace(temporary, path)


def load(run: object, path: Path) -> None:
    """Put back what :func:`save` wrote."""
    for name, part in torch.load(path, weights_only=True).items():
        own = getattr(run, name)
        if hasattr(own, "load_state_dict"):
            own.load_state_dict(part)
        else:
            setattr(run, name, part)
