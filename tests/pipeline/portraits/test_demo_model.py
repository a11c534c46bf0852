"""The packaged demo model keeps its promise: on portraits never trained on, every step is closer."""

import itertools
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from encoders import load_inverter
from encoders.metrics.distances import mse
from pipeline.faces import detection
from pipeline.faces.images import to_u8
from pipeline.faces.prepare import AlignSettings, align_sample
from pipeline.portraits import render, rendering, sample
from pipeline.records import Sample

N_PORTRAITS, N_STEPS = 64, 5
UNSEEN_SEED = 2_000_000_011  # training and its own check use others


@pytest.fixture(scope="module")
def model():
    return load_inverter("demo")


@pytest.fixture(scope="module")
def portraits():
    return render(sample(N_PORTRAITS, UNSEEN_SEED), 64, "aligned")


@pytest.fixture(scope="module")
def photos():
    """The NASA photo as it is aligned, mirrored, grey and dark, [4, 3, 64, 64]."""
    data = (Path(rendering.__file__).parent / "astronaut.jpg").read_bytes()
    [face] = align_sample(Sample(0, "astronaut", data), AlignSettings("face", "largest", 64, 64))
    photo = torch.from_numpy(face.image_u8).permute(2, 0, 1).float() / 127.5 - 1
    grey = photo.mean(dim=0, keepdim=True).expand(3, -1, -1)
    return torch.stack([photo, photo.flip(-1), grey, 0.6 * photo - 0.4])


@pytest.fixture(scope="module")
def by_step(model, portraits):
    """Images of each step, [N_STEPS, N_PORTRAITS, 3, 64, 64]."""
    return model.invert(portraits, n_steps=N_STEPS, keep_images=True).images


@pytest.mark.slow
def test_mean_error_falls_with_every_step(model, portraits, by_step):
    start = model.average_image.expand_as(portraits)
    errors = [mse(image, portraits).mean().item() for image in (start, *by_step)]
    assert all(after < before for before, after in itertools.pairwise(errors)), errors


@pytest.mark.slow
def test_a_portrait_is_nearest_to_its_own_reconstruction(portraits, by_step):
    flat, drawn = portraits.flatten(1), by_step[-1].flatten(1)
    nearest = torch.cdist(drawn, flat).argmin(dim=1)
    assert (nearest == torch.arange(N_PORTRAITS)).float().mean() > 0.95


@pytest.mark.slow
def test_a_real_photo_stays_a_drawn_likeness(model, photos):
    """It gets better or stays; to dlib's detector, every step shows a face."""
    drawn = model.invert(photos, N_STEPS).thumbnails
    errors = torch.stack([mse(step.clamp(-1, 1), photos) for step in drawn])
    assert (errors[-1] < 0.95 * errors[0]).all(), errors
    assert (errors[-1] <= 1.05 * errors.min(dim=0).values).all(), errors
    size = (detection.ALIGNED_SIDE, detection.ALIGNED_SIDE)
    for image in F.interpolate(drawn.flatten(0, 1), size, mode="bilinear", antialias=True):
        assert detection.detect(to_u8(image))


@pytest.mark.slow
def test_average_image_is_a_face(model, portraits):
    """The mean of portraits: inside the range, left and right alike, skin brighter than the eyes."""
    image = model.average_image
    assert image.isfinite().all()
    assert image.abs().max() < 1.5
    assert (image - image.flip(-1)).abs().mean() < 0.15
    assert (image - portraits.mean(0)).abs().mean() < 0.2
    eyes, cheeks = image[:, 28:33, 20:44].mean(0), image[:, 37:42, 20:44].mean(0)
    assert eyes.mean() < cheeks.mean()


def test_weights_are_small():
    from encoders.inverter_file import demo_path as encoder_path
    from generators import demo_path as generator_path

    size = sum(path.stat().st_size for path in (generator_path(), encoder_path()))
    assert size < 24e6


@pytest.mark.slow
def test_demo_is_deterministic(model, portraits):
    first, second = (model.invert(portraits[:4], n_steps=2).latents for _ in range(2))
    assert torch.equal(first, second)
    noise = [p for n, p in model.generator.named_parameters() if n.endswith("noise_strength")]
    assert all(strength == 0 for strength in noise)
