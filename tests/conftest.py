"""Fixtures that several tests share: tiny real networks, real shards and the parity cases."""

import io
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def parity():
    """Numbers of the published implementations: ``.folder`` and ``.fill``, which rebuilds the weights."""
    sys.path.insert(0, str(DATA / "parity"))
    import fill

    return SimpleNamespace(folder=DATA / "parity", fill=fill)


@pytest.fixture
def tiny_generator():
    """A 32 px StyleGAN2 with random weights, fresh for each test."""
    import torch

    from generators import Generator, GeneratorConfig

    torch.manual_seed(0)
    config = GeneratorConfig(
        resolution=32, channels=(16, 16, 12, 8), z_dim=16, w_dim=16, n_mapping_layers=2
    )
    return Generator(config).requires_grad_(False)


@pytest.fixture(scope="session")
def tiny_inverter(tmp_path_factory):
    """Path of a small inverter file (64 px) whose answers differ from image to image."""
    import torch

    from encoders import ReStyle, UNet, UNetConfig, save_inverter
    from generators import Generator, GeneratorConfig

    torch.manual_seed(0)
    config = GeneratorConfig(
        resolution=64, channels=(16, 16, 16, 8, 8), z_dim=16, w_dim=16, n_mapping_layers=2
    )
    generator = Generator(config)
    encoder = UNet(UNetConfig(resolution=64, n_styles=10, w_dim=16, widths=(16, 16, 16, 16, 16)))
    for parameter in encoder.parameters():
        if not parameter.abs().sum():
            torch.nn.init.normal_(parameter, std=0.05)
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_inverter(path, ReStyle(encoder, generator, torch.zeros(16), (64, 64)))
    return path


@pytest.fixture
def write_tar():
    """Write (name, bytes) members to a tar; returns its path as a string."""

    def write(path, members, mode="w"):
        with tarfile.open(path, mode) as tar:
            for name, data in members:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        return str(path)

    return write


@pytest.fixture
def photo():
    """Bytes of a small photo-like PNG that its number decides."""

    def make(number=0, size=(80, 60)):
        source = np.random.default_rng(number)
        coarse = source.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        data = io.BytesIO()
        Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(data, "png")
        return data.getvalue()

    return make
