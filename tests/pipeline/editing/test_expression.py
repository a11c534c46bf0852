"""The words of `--direction`."""

import pytest
import torch

from generators import CheckpointError, directions
from pipeline.editing import expression
from pipeline.errors import ConfigError

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


def test_directions_of_the_demo_come_with_it():
    from generators import load_generator

    generator = load_generator("demo")
    shape = generator.n_styles, generator.w_dim
    one = expression.parse("demo:smile + 0.5*demo:hair_lightness@0-3")
    assert one.name == "smile + 0.5*hair_lightness@0-3"
    found = expression.resolve(one, *shape, lambda: None)
    smile, hair = (
        directions.load(directions.demo_path(n), *shape) for n in ("smile", "hair_lightness")
    )
    torch.testing.assert_close(found, smile + 0.5 * directions.at_layers(hair, range(4)))
    with pytest.raises(CheckpointError, match="no direction demo:frown; there are demo:glasses, "):
        expression.parse("demo:frown")


def test_identity_follows_the_content_not_the_name(smile):
    first = expression.parse("x=smile.safetensors@0-3").signature()
    directions.save("moved.safetensors", smile, {}, "")
    assert expression.parse("x=moved.safetensors@0-3").signature() == first
    assert expression.parse("x=moved.safetensors@0-2").signature() != first
    directions.save("moved.safetensors", smile + 1, {}, "")
    assert expression.parse("x=moved.safetensors@0-3").signature() != first


def test_refusals(smile):
    with pytest.raises(ConfigError, match="sefa needs a component"):
        expression.parse("sefa")
    for layers in ("5-3", "0-99999999999"):
        with pytest.raises(ConfigError, match=f"'{layers}' does not name layers"):
            expression.parse(f"smile.pt@{layers}")
    for layers in ("", "²", "1,,2"):
        with pytest.raises(ConfigError, match="does not name layers"):
            expression.parse_layers(layers)
    for digits in ("9" * 10, "9" * 5000):
        with pytest.raises(ConfigError, match="there is no component 9+; they are counted from 0"):
            expression.parse(f"sefa:{digits}")
    with pytest.raises(ConfigError, match="factor .* is too large"):
        expression.parse("9" * 400 + "*smile.pt")
    with pytest.raises(ConfigError, match="takes .NAME=.*not ''"):
        expression.parse("")
    with pytest.raises(ConfigError, match="two directions are named 'smile'"):
        expression.parse_all(("a/smile.pt", "b/smile.pt"))
    with pytest.raises(ConfigError, match="--direction smile@9: layers must lie in 0 to 7"):
        resolved("smile.safetensors@9")
