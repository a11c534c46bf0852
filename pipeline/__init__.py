"""The pipeline: shards in, Parquet out; or one photo. Importing it loads neither torch, ray nor dlib."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.latents import LatentDataset

if TYPE_CHECKING:
    from pipeline.inverter.inverter import Inverter as Inverter

__all__ = ["Inverter", "LatentDataset"]


def __getattr__(name: str) -> Any:
    if name == "Inverter":  # which loads torch
        from pipeline.inverter.inverter import Inverter

        return Inverter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
