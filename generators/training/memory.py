"""How much memory a batch takes at its peak, told before the first one is computed.

Measured on a CPU at 64 and 128 px, 16 to 64 images and widths of 8 to 64 (`benchmarks/training_memory.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

# Copies of each layer's feature map that the double backward pass of a penalty holds, for one image.
N_COPIES = 7.0
# Of gradients and of Adam's two averages; weights are there already.
N_COPIES_OF_WEIGHTS = 3
N_BYTES_OF_WEIGHT = 4
OVERHEAD = (
    500 * 2**20
)  # code that torch loads for a first backward pass, and what its libraries set aside


@dataclass(frozen=True)
class Need:
    """Bytes of a batch at its peak, beyond those of the weights, and settings that need fewer."""

    n_bytes: int
    instead: tuple[
        tuple[str, int], ...
    ] = ()  # flags and what they need, from the most to the least


def peak_bytes(
    channels: Sequence[Sequence[int]], networks: Sequence[nn.Module], n_images: int, itemsize: int
) -> int:
    """Bytes of an update with gradient penalties, beyond the weights.

    Args:
        channels: of each network, its feature maps at 4, 8, ... px.
        networks: those that learn.
        n_images: computed at once.
        itemsize: bytes of a number in a feature map.
    """
    n_elements = sum(c * (4 * 2**i) ** 2 for widths in channels for i, c in enumerate(widths))
    n_weights = sum(p.numel() for network in networks for p in network.parameters())
    maps = N_COPIES * n_elements * itemsize * n_images
    return int(OVERHEAD + maps + N_COPIES_OF_WEIGHTS * N_BYTES_OF_WEIGHT * n_weights)
