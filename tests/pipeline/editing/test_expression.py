"""The words of `--direction`."""

import pytest
import torch

from generators import directions
from pipeline.config import ConfigError
from pipeline.editing import expression

N_STYLES, W_DIM = 8, 16


@pytest.fixture
def smile(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    vectors = torch.randn(N_STYLES, W_DIM)
    directions.save("smile.safetensors", vectors, {}, "")
    return vectors


def resolved(text, generator=lambda: None):
    return expression.resolve(expression.parse(text), N_STYLES, W_DIM, generator)


def test_factors_layers_and_sums(smile):
    torch.save(torch.ones(1, W_DIM), "age.pt")
    expected = -2 * smile
    expected[[0, 1, 5]] += 0.5
    found = resolved("-2*smile.safetensors + 0.5*age.pt@0-1,5")
    torch.testing.assert_close(found, expected)


def test_sefa_takes_the_generator(smile, tiny_generator):
    found = resolved("sefa:1@2-3", lambda: tiny_generator)
    torch.testing.assert_close(found, directions.sefa(tiny_generator, 1, (2, 3)))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("some/where/smile.pt", "smile"),
        ("happy=smile.pt + -0.5*age.pt", "happy"),
        ("smile.pt + -0.5*pca.pt:3@0-7", "smile + -0.5*pca:3@0-7"),
        ("sefa:0@1,4", "sefa:0@1,4"),
        ("a=b.pt", "a"),
    ],
)
def test_names(text, name):
    assert expression.parse(text).name == name


def test_identity_follows_the_content_not_the_name(smile):
    first = expression.parse("x=smile.safetensors@0-3").identity()
    directions.save("moved.safetensors", smile, {}, "")
    assert expression.parse("x=moved.safetensors@0-3").identity() == first
    assert expression.parse("x=moved.safetensors@0-2").identity() != first
    directions.save("moved.safetensors", smile + 1, {}, "")
    assert expression.parse("x=moved.safetensors@0-3").identity() != first


def test_refusals(smile):
    with pytest.raises(ConfigError, match="sefa needs a component"):
        expression.parse("sefa")
    with pytest.raises(ConfigError, match="the layers 5-3"):
        expression.parse("smile.pt@5-3")
    with pytest.raises(ConfigError, match="takes .NAME=.*not ''"):
        expression.parse("")
    with pytest.raises(ConfigError, match="two directions are named 'smile'"):
        expression.parse_all(("a/smile.pt", "b/smile.pt"))
    with pytest.raises(ConfigError, match="--direction smile@9: layers must lie in 0 to 7"):
        resolved("smile.safetensors@9")
