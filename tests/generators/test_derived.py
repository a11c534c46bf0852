"""Derived weights are kept while a network is frozen, never stale, and part of nothing that is stored."""

import copy

import pytest
import torch

from generators.files import checkpoint
from generators.styled_conv import conv_weights


@pytest.fixture
def synthesis(tiny_generator):
    return tiny_generator.requires_grad_(False).synthesis


@pytest.fixture
def w_plus(tiny_generator):
    return torch.randn(3, tiny_generator.n_styles, tiny_generator.w_dim)


def test_they_are_made_once_for_frozen_weights(synthesis, w_plus):
    first = synthesis.weights(synthesis.compute_dtype)
    synthesis(w_plus)
    assert synthesis.weights(synthesis.compute_dtype) is first


@pytest.mark.parametrize("cause", ["in place", "dtype", "to", "loaded", "formulation"])
def test_they_are_made_again_when_what_they_follow_from_changes(synthesis, w_plus, cause):
    before, drawn = synthesis.weights(synthesis.compute_dtype), synthesis(w_plus)
    if cause == "in place":
        with torch.no_grad():
            synthesis.convs[2].weight.add_(1)
    elif cause == "dtype":
        synthesis.compute_dtype = torch.bfloat16
    elif cause == "to":
        synthesis.double()
    elif cause == "loaded":
        synthesis.load_state_dict({k: v + 1 for k, v in synthesis.state_dict().items()})
    else:
        synthesis.reference = True
    assert synthesis.weights(synthesis.compute_dtype) is not before
    if cause in ("in place", "loaded"):
        assert not torch.allclose(synthesis(w_plus), drawn, atol=1e-3)


def test_none_are_kept_of_weights_in_training(synthesis, w_plus):
    synthesis.requires_grad_(True)
    assert synthesis.weights(synthesis.compute_dtype) is not synthesis.weights(
        synthesis.compute_dtype
    )
    synthesis(w_plus).square().mean().backward()
    assert all(conv.weight.grad is not None for conv in synthesis.convs)


def test_they_are_in_no_file_no_hash_and_no_copy(tiny_generator, synthesis, w_plus):
    names, sha256 = list(synthesis.state_dict()), checkpoint.tensors_sha256(synthesis.state_dict())
    kept = synthesis.weights(synthesis.compute_dtype)
    assert list(synthesis.state_dict()) == names
    assert checkpoint.tensors_sha256(synthesis.state_dict()) == sha256
    copied = copy.deepcopy(tiny_generator).synthesis
    assert copied.weights(copied.compute_dtype) is not kept
    assert torch.equal(copied(w_plus), synthesis(w_plus))


def test_they_are_usable_for_training_though_made_in_inference_mode(synthesis, w_plus):
    with torch.inference_mode():
        synthesis(w_plus)
    latents = w_plus.clone().requires_grad_()
    synthesis(latents).square().mean().backward()
    assert latents.grad is not None
    assert latents.grad.isfinite().all()


def test_a_kernel_is_made_in_the_dtype_of_the_maps_from_float32():
    weight, bias = torch.randn(4, 3, 3, 3), torch.zeros(4)
    half = conv_weights(weight, bias, "polyphase", torch.bfloat16)
    full = conv_weights(weight, bias, "polyphase")
    assert torch.equal(half.kernel, full.kernel.bfloat16())
    assert half.energy.dtype == torch.float32
