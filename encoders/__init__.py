"""Encoders: from images to the latents of a generator."""

from encoders.inverter_file import load_inverter, require_precision, save_inverter
from encoders.restyle import Bootstrap, Inversion, ReStyle, bootstrap
from encoders.unet import UNet, UNetConfig
from encoders.view import View

__all__ = [
    "Bootstrap",
    "Inversion",
    "ReStyle",
    "UNet",
    "UNetConfig",
    "View",
    "bootstrap",
    "load_inverter",
    "require_precision",
    "save_inverter",
]
