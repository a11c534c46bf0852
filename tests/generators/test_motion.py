"""A StyleGAN3's content moved, edited and seen beyond its edges, against the published numbers."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from generators import directions, load_generator, motion
from generators.motion import Margins

MARGINS = Margins(left=32, top=8, right=16, bottom=24)


@pytest.fixture(scope="module")
def case(parity):
    found = np.load(parity.folder / "stylegan3_r_128.npz")
    generator = load_generator(parity.folder / "stylegan3_r_128.pkl")
    w_plus = torch.from_numpy(found["w"][:1])[:, None].expand(-1, 16, -1)
    return generator, w_plus, found["transform_moved"]


@pytest.fixture(scope="module")
def expected(parity):
    return np.load(parity.folder / "sg3_video_and_edits.npz")


@torch.inference_mode()
def test_a_wider_view_is_the_published_one(case, expected):
    generator, w_plus, moved = case
    transforms = motion.shifted(moved, MARGINS, 128)
    np.testing.assert_allclose(transforms, expected["expansion_transforms"], atol=1e-6)
    wide = motion.expanded(generator.synthesis, w_plus, MARGINS, moved[None])
    assert wide.shape == (1, 3, 160, 176)
    for name, found in (
        ("pooled", F.avg_pool2d(wide, 8)),
        ("corner_top_left", wide[:, :, :12, 24:40]),
        ("corner_bottom_right", wide[:, :, -32:-16, -24:-8]),
    ):
        np.testing.assert_allclose(found, expected[f"expanded_{name}"], atol=1e-4, err_msg=name)
    own = generator.synthesis(w_plus)
    assert torch.equal(motion.expanded(generator.synthesis, w_plus, Margins()), own)


@torch.inference_mode()
def test_edits_under_a_transform_are_the_published_ones(case, expected, parity):
    generator, w_plus, moved = case
    direction = parity.fill.normal("direction", (1, 64))
    direction = (direction / direction.norm()).expand(16, -1)
    factors = torch.from_numpy(expected["edit_factors"]).float()
    latents = directions.apply(w_plus.expand(len(factors), -1, -1), direction, factors)
    np.testing.assert_allclose(latents[:, [0, 15]], expected["edit_latents"], atol=1e-5)
    drawn = generator.synthesis(latents, transform=torch.from_numpy(moved).float())
    pixels = ((drawn + 1) / 2).clamp(0, 1).mul(255)[:, :, 56:72, 56:72].permute(0, 2, 3, 1)
    assert np.abs(pixels.numpy().astype(int) - expected["edit_patch_uint8"]).max() <= 1


def test_margins_that_are_none(case):
    generator, w_plus, _ = case
    with pytest.raises(ValueError, match="0 or more pixels, not -1"):
        Margins(top=-1)
    with pytest.raises(ValueError, match="at most the picture's own 128 pixels"):
        motion.expanded(generator.synthesis, w_plus, Margins(top=129))
