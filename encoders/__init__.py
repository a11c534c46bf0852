"""Encoders: from images to the latents of a generator."""

from encoders.bootstrap import Bootstrap, bootstrap
from encoders.inverter_file import load_inverter, require_precision, save_inverter
from encoders.loop import Inversion
from encoders.restyle import ReStyle
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
