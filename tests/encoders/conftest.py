"""Fixtures of the encoders' training: files with published names, and tiny settings."""

import json

import pytest
import torch


@pytest.fixture(scope="session")
def arcface_file(parity, tmp_path_factory):
    """Path of ArcFace's IR-SE50 with the parity weights."""
    shapes = json.loads((parity.folder / "ir_se50_identity.json").read_text())
    path = tmp_path_factory.mktemp("arcface") / "model_ir_se50.pth"
    torch.save(parity.fill.from_shapes(shapes), path)
    return str(path)


@pytest.fixture
def shapes_batch():
    """Images [n, 3, 32, 32] of one disc each, the colour and place of which its number decides."""

    def make(n, number=0):
        draw = torch.Generator().manual_seed(number)
        axis = torch.linspace(-1, 1, 32)
        centre = torch.rand(n, 2, 1, generator=draw) - 0.5
        y, x = axis[None, :] - centre[:, 0], axis[None, :] - centre[:, 1]
        inside = torch.sigmoid(20 * (0.4 - (y[:, :, None] ** 2 + x[:, None, :] ** 2).sqrt()))
        colour = 2 * torch.rand(n, 3, 1, 1, generator=draw) - 1
        return inside[:, None] * colour

    return make
