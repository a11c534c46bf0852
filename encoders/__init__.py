"""Encoders: from images to the latents of a generator."""

from encoders.backbones import UNet, UNetConfig
from encoders.inverter_file import load_inverter, require_precision, save_inverter
from encoders.restyle import Inversion, ReStyle

__all__ = [
    "Inversion",
    "ReStyle",
    "UNet",
    "UNetConfig",
    "load_inverter",
    "require_precision",
    "save_inverter",
]
