"""The pipeline: shards in, Parquet out; or one photo. Importing it loads nothing: not even pyarrow."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.inverter.inverter import Inverter as Inverter
    from pipeline.latents.dataset import LatentDataset as LatentDataset

_HOMES = {"Inverter": "pipeline.inverter.inverter", "LatentDataset": "pipeline.latents.dataset"}
__all__ = ["Inverter", "LatentDataset"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
