"""Full-size published encoders, read from files in the published layout, against their numbers."""

import argparse
import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from encoders import load_inverter


@pytest.fixture(scope="module")
def published_state(parity):
    """The 1024 px checkpoint, which is the same for both cases: their key names are."""
    states = [json.loads((parity.folder / f"{c}.json").read_text())["state_dict"] for c in CASES]
    assert states[0] == states[1]
    return parity.fill.from_shapes(states[0])


CASES = {"restyle_psp_ffhq": "BackboneEncoder", "restyle_e4e_ffhq": "ProgressiveBackboneEncoder"}


@pytest.mark.parametrize("case", CASES)
def test_reproduces_the_published_implementation(case, published_state, parity, tmp_path):
    path = tmp_path / "model.pt"
    content = {
        "state_dict": published_state,
        "opts": argparse.Namespace(encoder_type=CASES[case], output_size=1024),
        "latent_avg": 0.5 * parity.fill.normal("latent_avg", (18, 512)),
    }
    torch.save(content, path)
    model = load_inverter(path)
    path.unlink()
    expected = np.load(parity.folder / f"{case}.npz")
    image = parity.fill.image(case, 256, 256)

    result = model.invert(image, n_steps=2, keep_images=True)

    average = F.avg_pool2d(model.average_image, 8)
    np.testing.assert_allclose(average, expected["average_image"], atol=1e-3)
    np.testing.assert_allclose(result.latents[:, 0], expected["latents"], atol=1e-4, rtol=0)
    images = result.images[:, 0]
    np.testing.assert_allclose(F.avg_pool2d(images, 32), expected["pooled"], atol=1e-3, rtol=0)
    patch = images[:, :, 504:520, 504:520]
    np.testing.assert_allclose(patch, expected["patch"], atol=1e-3, rtol=0)
