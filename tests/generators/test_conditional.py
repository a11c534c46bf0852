"""Conditional generators: the published numbers, and labels that do not fit."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from generators import (
    CheckpointError,
    Generator,
    conversion,
    load_generator,
    load_stylegan2,
    save_generator,
)
from generators.files import checkpoint


@torch.inference_mode()
def test_reproduces_the_published_implementation(parity, tmp_path):
    path = parity.folder / "stylegan2_ada_64_conditional.pkl"
    conversion.convert_generator(path, tmp_path / "g.safetensors")
    generator = load_generator(path)
    expected = dict(np.load(path.with_suffix(".npz")))
    z, labels = torch.from_numpy(expected["z"]), torch.from_numpy(expected["labels"])
    for name, truncation in (("image", 1.0), ("truncated", 0.7)):
        w = generator.mapping(z, truncation, labels)
        theirs = expected["w" if name == "image" else "w_truncated"]
        np.testing.assert_allclose(w, theirs.reshape(w.shape), atol=1e-5)
        image = generator(z, truncation, labels=labels)
        assert torch.equal(
            load_generator(tmp_path / "g.safetensors")(z, truncation, labels=labels), image
        )
        np.testing.assert_allclose(F.avg_pool2d(image, 2), expected[f"{name}_pooled"], atol=1e-4)
        patch = image[:, :, 24:40, 24:40]
        np.testing.assert_allclose(patch, expected[f"{name}_patch"], atol=1e-4)
    silent = F.avg_pool2d(generator(z, noise="none", labels=labels), 2)
    np.testing.assert_allclose(silent, expected["image_without_noise_pooled"], atol=1e-4)


def test_labels_that_do_not_fit_are_refused_in_a_sentence(tiny_generator, tmp_path):
    z = torch.randn(2, 16)
    with pytest.raises(ValueError, match="takes no labels"):
        tiny_generator(z, labels=torch.zeros(2, 5))
    generator = Generator(replace(tiny_generator.config, c_dim=5))
    with pytest.raises(ValueError, match=r"conditional: pass labels \[2, 5\]"):
        generator(z)
    with pytest.raises(ValueError, match=r"labels must be \[2, 5\], not \[1, 5\]"):
        generator(z, labels=torch.zeros(1, 5))
    first, second = generator(z, labels=torch.eye(5)[:2]), generator(z, labels=torch.eye(5)[1:3])
    assert not torch.equal(first, second)
    assert generator.estimate_latent_avg(20).shape == (16,)
    save_generator(tmp_path / "g.safetensors", generator)
    assert checkpoint.read_header(tmp_path / "g.safetensors").format_version == 3
    assert load_stylegan2(tmp_path / "g.safetensors").c_dim == 5
    with pytest.raises(CheckpointError, match=r"it takes labels \(c_dim 5\)"):
        conversion.convert_generator(tmp_path / "g.safetensors", tmp_path / "g.pt")


def test_a_file_without_labels_is_what_it_was(tiny_generator, tmp_path):
    save_generator(tmp_path / "g.safetensors", tiny_generator)
    header = checkpoint.read_header(tmp_path / "g.safetensors")
    assert header.format_version == 1
    assert "c_dim" not in header.config
    with pytest.raises(ValueError, match="only StyleGAN3 can move"):
        tiny_generator.synthesis(torch.zeros(1, 8, 16), transform=torch.eye(3))
