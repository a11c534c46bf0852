"""Portraits drawn where they are trained on, as they are needed: the same ones that shards would hold.

What travels is their normals z. A portrait of a stream, and one that is held out, is the one that `restyle
portraits` writes with the same seed, in 8 bits as a PNG has it, and the stream shuffles alike.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import ConfigError
from pipeline.portraits import N_PARAMETERS, render, sample
from pipeline.portraits.shards import PER_SHARD, SEED_STRIDE
from pipeline.records import Sample
from pipeline.training.batches import Batch, vector
from pipeline.training.config import RenderConfig
from pipeline.training.stream import Position, SampleStream

AT_ONCE = 64  # of the images to validate on


def shards(config: RenderConfig) -> tuple[str, ...]:
    """What stands for shards in a stream: a seed and a number of portraits each."""
    n = config.n_portraits
    sizes = [min(PER_SHARD, n - first) for first in range(0, n, PER_SHARD)]
    seed = config.portraits_seed * SEED_STRIDE
    return tuple(f"portraits:{seed + i}:{size}" for i, size in enumerate(sizes))


class RenderedStream(SampleStream):
    """A stream whose samples have normals and no image; its shards are those of :func:`shards`."""

    def read(self, url: str) -> Iterator[Sample]:
        """The samples of one shard, in the order of `restyle portraits`."""
        _, seed, n = url.split(":")
        for index, z in enumerate(sample(int(n), int(seed))):
            buffer = io.BytesIO()
            np.save(buffer, z.numpy())
            fields = {"npy": buffer.getvalue()}
            yield Sample(index, f"{seed}_{index:06}", None, fields=fields)


class RenderedBatches:
    """As :class:`Batches`, of images that are drawn on a device."""

    def __init__(
        self,
        stream: RenderedStream,
        batch_size: int,
        size: int,  # height and width
        z_dim: int,
        device: torch.device,
    ) -> None:
        self._stream, self._batch_size = stream, batch_size
        self._size, self._z_dim, self._device = size, z_dim, device

    def close(self) -> None:
        """Nothing to end."""

    def __iter__(self) -> Iterator[Batch]:
        """Raises ConfigError where the mapping takes vectors of another length."""
        source: Iterator[tuple[Sample, Position]] = iter(self._stream)
        while True:
            taken = [next(source) for _ in range(self._batch_size)]
            z = torch.stack([vector(each, self._z_dim) for each, _ in taken])
            keys = tuple(each.key for each, _ in taken)
            yield Batch(drawn(z.to(self._device), self._size), z, keys, taken[-1][1], 0)


def held_out(
    config: RenderConfig, n: int, size: int, z_dim: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The first ``n`` portraits to validate on, [n, 3, size, size], and their z.

    Raises:
        ConfigError: the mapping takes vectors of another length.
    """
    if z_dim != N_PARAMETERS:
        raise ConfigError(
            f"a portrait is drawn from {N_PARAMETERS} numbers, but the mapping takes {z_dim}; pass "
            f"--z-dim {N_PARAMETERS}"
        )
    z = sample(n, config.held_out_seed * SEED_STRIDE)
    parts = z.to(device).split(AT_ONCE)
    return torch.cat([drawn(part, size) for part in parts]), z


def drawn(z: Tensor, size: int) -> Tensor:
    """Portraits [N, 3, size, size] of normals z as a PNG would hold them, on the device of z."""
    levels = render(z, size, "aligned").clamp(-1, 1).add(1).mul(127.5).round()
    return levels / 127.5 - 1
