"""Full-size published encoders, read from files in the published layout, against their numbers."""

import argparse
import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from encoders import load_inverter
from encoders.metrics import distances

# The first two have the same key names and so the same weights, which are drawn once.
CASES = [
    "restyle_psp_ffhq",
    "restyle_e4e_ffhq",
    "restyle_psp_cars",
    "restyle_psp_church",
    "restyle_psp_fpn_ffhq256",
]


@pytest.fixture(scope="module")
def published_state(parity):
    """A function from shapes (as JSON) to the state dict; the last one is kept."""
    last = {}

    def state(shapes):
        if shapes not in last:
            last.clear()
            last[shapes] = parity.fill.from_shapes(json.loads(shapes))
        return last[shapes]

    return state


def write(case, published_state, parity, path):
    """Write a case as a file in the published layout; returns what its JSON tells."""
    told = json.loads((parity.folder / f"{case}.json").read_text())
    n_styles = 2 * int(np.log2(told["output_size"])) - 2
    options = {name: told[name] for name in ("encoder_type", "output_size", "dataset_type")}
    content = {
        "state_dict": published_state(json.dumps(told["state_dict"])),
        "opts": argparse.Namespace(**options),
        "latent_avg": 0.5 * parity.fill.normal("latent_avg", (n_styles, 512)),
    }
    torch.save(content, path)
    return told


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_reproduces_the_published_implementation(case, published_state, parity, tmp_path):
    path = tmp_path / "model.pt"
    told = write(case, published_state, parity, path)
    model = load_inverter(path)
    path.unlink()
    expected = np.load(parity.folder / f"{case}.npz")
    height, width = told["input"][2:]

    image = parity.fill.image(case, height, width)
    result = model.invert(image, n_steps=told["steps"], keep_images=True)

    assert model.input_size == (height, width)
    average = F.avg_pool2d(model.average_image, 8)
    np.testing.assert_allclose(average, expected["average_image"], atol=1e-3, rtol=0)
    np.testing.assert_allclose(result.latents[:, 0], expected["latents"], atol=1e-4, rtol=0)
    images = result.images[:, 0]
    assert images.shape[-2:] == (height * images.shape[-1] // width, told["output_size"])
    pooled = F.avg_pool2d(images, told["output_size"] // 32)
    np.testing.assert_allclose(pooled, expected["pooled"], atol=1e-3, rtol=0)
    np.testing.assert_allclose(_centre(images), expected["patch"], atol=1e-3, rtol=0)
    np.testing.assert_allclose(
        F.avg_pool2d(result.thumbnails[:, 0], 8), expected["pooled"], atol=1e-3, rtol=0
    )


@pytest.mark.slow
def test_bfloat16_is_within_40_db(published_state, parity, tmp_path):
    path, case = tmp_path / "model.pt", "restyle_psp_church"
    write(case, published_state, parity, path)
    image = parity.fill.image(case)
    full, half = (
        load_inverter(path, precision=p).invert(image, n_steps=1, keep_images=True)
        for p in ("fp32", "bf16")
    )
    path.unlink()
    assert not torch.equal(half.images, full.images)
    for a, b in zip(half.images, full.images, strict=True):
        # The decibels of `distances.psnr` are of a range of 2, less than these images span.
        assert distances.psnr(a, b).min() > 40


def _centre(images):
    middle = [side // 2 for side in images.shape[-2:]]
    rows, columns = (slice(m - 8, m + 8) for m in middle)
    return images[:, :, rows, columns]
