"""Fixtures that several tests share: tiny real networks and the parity cases."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

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
