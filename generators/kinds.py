"""The two kinds of generator that a file may hold, by their configs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from generators.files import checkpoint
from generators.style_based import StyleBasedGenerator
from generators.stylegan2 import Generator, GeneratorConfig
from generators.stylegan3 import StyleGAN3Generator
from generators.stylegan3_config import NETWORK, StyleGAN3Config

AnyConfig = GeneratorConfig | StyleGAN3Config


def config_from(plain: Mapping[str, Any]) -> AnyConfig:
    """What a config's `to_dict` gave, as a config again.

    Raises:
        TypeError, ValueError: it describes nothing that can be.
    """
    if not isinstance(plain, Mapping):
        raise TypeError(f"a generator's config must be an object, not {type(plain).__name__}")
    if plain.get("network") == NETWORK:
        return StyleGAN3Config.from_dict(dict(plain))
    return GeneratorConfig(**plain)


def make(config: AnyConfig) -> StyleBasedGenerator:
    """A generator of random weights."""
    if isinstance(config, StyleGAN3Config):
        return StyleGAN3Generator(config)
    return Generator(config)


def format_version(config: AnyConfig) -> int:
    """Of a file of ours that holds such a generator: the oldest whose readers can build it."""
    is_new = isinstance(config, StyleGAN3Config) or config.c_dim > 0
    return checkpoint.WITH_OTHER_GENERATORS if is_new else checkpoint.FORMAT_VERSION


def largest_map(config: AnyConfig) -> int:
    """Numbers in the largest feature map of one image."""
    if isinstance(config, StyleGAN3Config):
        return max(layer.n_out * layer.target.size**2 for layer in config.layers)
    return max(n * (4 << level) ** 2 for level, n in enumerate(config.channels))


def name_of(config: AnyConfig) -> str:
    """The kind in a word, for people."""
    return f"StyleGAN3-{config.variant}" if isinstance(config, StyleGAN3Config) else "StyleGAN2"
