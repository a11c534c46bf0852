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
def make_inverter(tmp_path_factory):
    """Write a small inverter (64 px) whose answers differ from image to image; returns its path."""
    import torch

    from encoders import ReStyle, UNet, UNetConfig, save_inverter
    from encoders.restyle import SinglePass
    from generators import Generator, GeneratorConfig

    def make(seed=0, in_channels=6):
        torch.manual_seed(seed)
        config = GeneratorConfig(
            resolution=64, channels=(16, 16, 16, 8, 8), z_dim=16, w_dim=16, n_mapping_layers=2
        )
        generator = Generator(config)
        encoder = UNet(UNetConfig(64, 10, 16, in_channels, widths=(16, 16, 16, 16, 16)))
        for parameter in encoder.parameters():
            if not parameter.abs().sum():
                torch.nn.init.normal_(parameter, std=0.05)
        path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
        kind = ReStyle if in_channels == 6 else SinglePass
        save_inverter(path, kind(encoder, generator, torch.zeros(16), (64, 64)))
        return path

    return make


@pytest.fixture(scope="session")
def tiny_inverter(make_inverter):
    """Path of a small inverter file."""
    return make_inverter()


@pytest.fixture(scope="session")
def lpips_files(parity, tmp_path_factory):
    """Paths of LPIPS's two files for AlexNet, with the published names and made-up weights."""
    import torch

    from encoders.perceptual import LPIPS

    network = LPIPS("alex")
    heads = parity.fill.fill(network.heads.state_dict())
    folder = tmp_path_factory.mktemp("lpips")
    torch.save(parity.fill.fill(network.backbone.state_dict()), folder / "alexnet.pth")
    torch.save({name: weight.abs() for name, weight in heads.items()}, folder / "alex.pth")
    return str(folder / "alexnet.pth"), str(folder / "alex.pth")


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
