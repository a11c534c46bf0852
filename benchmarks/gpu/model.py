"""The model that is measured: made-up weights in the layout of ReStyle-pSp for FFHQ, or a tiny one."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.record import ROOT
from encoders import ReStyle, UNet, UNetConfig, published
from generators import Generator, GeneratorConfig

PARITY = ROOT / "tests" / "data" / "parity"
CASE = "restyle_psp_ffhq"  # IR-SE50 under 18 heads at 256 px, StyleGAN2 config F at 1024 px


def parity_weights() -> ModuleType:
    """tests/data/parity/fill.py, which draws a tensor from its name: in float16 all stays finite."""
    path = PARITY / "fill.py"
    spec = importlib.util.spec_from_file_location("parity_fill", path)
    assert spec is not None, path
    assert spec.loader is not None, path
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def described(case: str) -> dict[str, Any]:
    return json.loads(Path(PARITY / f"{case}.json").read_text())


def full(device: torch.device) -> ReStyle:
    """The parity case CASE, so that what is timed is also what is compared with the published code."""
    fill, told = parity_weights(), described(CASE)
    content = {
        "state_dict": fill.from_shapes(told["state_dict"]),
        "opts": {name: told[name] for name in ("encoder_type", "output_size", "dataset_type")},
        "latent_avg": 0.5 * fill.normal("latent_avg", (18, 512)),
    }
    parts = published.from_content(content, CASE)
    networks = parts.encoder, parts.generator, parts.latent_avg, parts.input_size
    return parts.model_class(*networks, view=parts.view).to(device).eval().requires_grad_(False)


def tiny(device: torch.device) -> ReStyle:
    """64 px: a rehearsal for a CPU."""
    torch.manual_seed(0)
    config = GeneratorConfig(64, (16, 16, 16, 8, 8), z_dim=16, w_dim=16, n_mapping_layers=2)
    encoder = UNet(UNetConfig(64, 10, 16, widths=(16, 16, 16, 16, 16)))
    for parameter in encoder.parameters():
        if not parameter.abs().sum():
            torch.nn.init.normal_(parameter, std=0.05)
    model = ReStyle(encoder, Generator(config), torch.zeros(16), (64, 64))
    return model.to(device).eval().requires_grad_(False)


def pixels(n: int, size: tuple[int, int]) -> Tensor:
    """Smooth pictures [n, h, w, 3] uint8, each its own."""
    fill = parity_weights()
    images = torch.cat([fill.image(f"picture {i}", *size) for i in range(n)])
    return images.add(1).mul(127.5).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
