"""What is measured of an inversion, at which steps."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from encoders.metrics import distances, identity
from encoders.metrics.identity import FaceEmbedding
from encoders.restyle import Inversion
from pipeline.config import RunConfig
from pipeline.errors import ConfigError
from pipeline.faces import detection
from pipeline.inversion.scoring import Scorer, _by_step

CROPS = Path(__file__).parents[2] / "data" / "alignment"


@pytest.fixture
def result():
    """Three steps of two images."""
    torch.manual_seed(0)
    thumbnails, target = torch.rand(3, 2, 3, 64, 64) * 2 - 1, torch.rand(2, 3, 64, 64) * 2 - 1
    return Inversion(torch.zeros(3, 2, 4, 5), thumbnails[-1], thumbnails, target)


@pytest.fixture(scope="module")
def embedding(tmp_path_factory):
    """Path of a face embedding with untrained weights."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("identity") / "ir.pth"
    torch.save(FaceEmbedding().state_dict(), path)
    return str(path)


def by_image(scorer, result):
    return scorer.by_image(*(tensor.numpy() for tensor in scorer.measure(result)))


def test_what_leaves_the_range_counts_as_what_is_saved(result):
    scorer = Scorer(RunConfig(metrics=("mse",)))
    result.thumbnails[1] = 40.0
    white = distances.mse(torch.ones_like(result.target), result.target)
    assert [row["mse"][1] for row in by_image(scorer, result)] == pytest.approx(white.tolist())
    assert white.max() <= 4


def test_the_best_step_is_the_first_of_the_least_error():
    mse = torch.tensor([[3.0, 1.0, 2.0], [1.0, 1.0, 2.0], [1.0, 4.0, 1.0]])
    assert distances.best_steps(mse).tolist() == [2, 1, 3]
    scorer = Scorer(RunConfig(metrics=("mse",)))
    values, kept = mse[None].numpy(), np.array([3, 3, 3])
    assert scorer.best(values, kept) == [(2, False), (1, True), (3, False)]
    assert scorer.best(values, np.array([2, 1, 3])) == [(2, False), (1, False), (3, False)]
    assert Scorer(RunConfig(metrics=("psnr",))).best(values, kept) == [(None, False)] * 3


def test_best_without_mse_is_refused():
    with pytest.raises(ConfigError, match="--latents best is chosen by mse; add mse to --metrics"):
        RunConfig(metrics=("psnr",), latents="best")


def test_every_metric_has_a_value_a_step_for_each_image(result, lpips_files):
    weights, heads = lpips_files
    run = RunConfig(metrics=("psnr", "lpips", "identity"), lpips_weights=weights, lpips_heads=heads)
    scorer = Scorer(run)
    first, second = by_image(scorer, result)
    assert list(first) == ["psnr", "lpips"]
    assert [len(v) for v in second.values()] == [3, 3]
    expected = distances.psnr(result.thumbnails[1], result.target)[1].item()
    assert second["psnr"][1] == pytest.approx(expected)
    assert scorer.wants_chips  # dlib's identity is measured apart
    assert not scorer.measures("identity")
    assert list(scorer.hashes()) == ["lpips_sha256"]


@pytest.mark.slow
@pytest.mark.parametrize("steps", ["last", "all"])
def test_identity_by_a_network_at_the_steps_asked_for(result, embedding, steps):
    run = RunConfig(metrics=("identity",), identity_model=embedding, identity_steps=steps)
    scorer = Scorer(run)
    found = by_image(scorer, result)[0]["identity"]
    assert [value is None for value in found] == (
        [True, True, False] if steps == "last" else [False] * 3
    )
    [network] = scorer._networks.values()
    expected = identity.similarity(network, result.thumbnails[-1], result.target)[0].item()
    assert found[-1] == pytest.approx(expected, abs=1e-6)


@pytest.mark.slow
def test_dlibs_identity_is_dlibs(describe_by_dlib):
    crops = [Image.open(path).convert("RGB") for path in sorted(CROPS.glob("*_1024to256.png"))]
    worse = [
        [np.array(crop.filter(ImageFilter.GaussianBlur(radius))) for radius in (2, 8)]
        for crop in crops
    ]
    crops = [np.array(crop) for crop in crops]
    scorer = Scorer(RunConfig(metrics=("identity",)))
    rows = [[crop, *pictures] for crop, pictures in zip(crops, worse, strict=True)]
    chips = np.array([[detection.chip_aligned(picture) for picture in row] for row in rows])
    pairs = np.stack([chips[:, [0, i]] for i in (1, 2)], axis=1)  # [faces, blurs, 2, ...]
    found = scorer.identities(torch.from_numpy(pairs.reshape(-1, *pairs.shape[2:]))).view(-1, 2)
    for crop, pictures, values in zip(crops, worse, found, strict=True):
        first = describe_by_dlib(crop).astype(np.float64)
        for picture, value in zip(pictures, values, strict=True):
            second = describe_by_dlib(picture).astype(np.float64)
            assert value == pytest.approx(1 - np.linalg.norm(first - second), abs=1e-6)
        assert 0.3 < values[1] < 0.5 < values[0] < 0.8


def test_steps_measured_together_are_measured_alike(result):
    """As a GPU does it: all steps as one batch."""
    for distance in (distances.mse, distances.psnr, distances.ms_ssim):
        alone, together = (
            _by_step(distance, result.thumbnails, result.target, together)
            for together in (False, True)
        )
        assert alone.shape == (3, 2)
        torch.testing.assert_close(together, alone, rtol=1e-6, atol=1e-6)


def test_dlibs_identity_is_no_part_of_a_runs_hashes():
    """Folders of earlier runs, whose identities dlib itself measured, are resumed."""
    scorer = Scorer(RunConfig(metrics=("identity",)))
    assert scorer.hashes() == {}
    assert not Scorer(RunConfig(metrics=("mse",))).wants_chips


def test_paths_are_no_part_of_the_settings_but_weights_are(embedding):
    run = RunConfig(metrics=("identity",), identity_model=embedding, then="second.pt")
    assert not {"model", "then", "generator", "identity_model"} & run.settings().keys()
    assert set(Scorer(run).hashes()) == {"identity_sha256"}
    assert Scorer(RunConfig()).hashes() == {}


def test_a_metric_without_its_file_says_which_to_get(lpips_files):
    with pytest.raises(ConfigError, match="needs --lpips-weights: torchvision's alexnet-owt"):
        Scorer(RunConfig(metrics=("lpips",)))
    with pytest.raises(ConfigError, match="needs --lpips-heads: .*alex.pth or vgg.pth"):
        Scorer(RunConfig(metrics=("lpips",), lpips_weights=lpips_files[0]))
