"""Coordinates of W+ in which the error of an image is about equally curved in all directions.

Along some directions of W+ a picture changes ten thousand times as much as along others, so that plain
gradient descent creeps. How much, on the average of what a generator draws, tells the matrix E[J^T J] of
Gauss and Newton, J the derivative of the picture by its latent. It is estimated once per generator, from the
gradients of random weightings of the pixels: E[(J^T v)(J^T v)^T] for normal v. Of its own 9,216 x 9,216
entries (FFHQ) a few hundred gradients tell the block of each style layer well, and what is between the
layers by its largest directions alone; the rest is taken for uncorrelated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from encoders.restyle import ReStyle
from generators import StyleBasedGenerator
from generators.precision import float32_products

LARGE = 128  # pixels, above which fewer gradients are taken: each costs as much as an image's step
N_GRADIENTS, N_GRADIENTS_LARGE = 2048, 512  # at most; twice the numbers of a latent are enough
_SEED = 0
# Added to the curvature of every direction, in parts of its mean: below that, the estimate tells nothing.
_LEAST = 0.03
_LEAST_BETWEEN = 1e-3  # the same once the layers are even


def n_gradients(generator: StyleBasedGenerator) -> int:
    """How many are taken of a generator."""
    most = N_GRADIENTS if generator.resolution <= LARGE else N_GRADIENTS_LARGE
    return min(most, 2 * generator.n_styles * generator.w_dim)


def gradients(model: ReStyle, n: int, batch_size: int = 8) -> Tensor:
    """J^T v of random latents of W, [n, n_styles, w_dim] float32 on the CPU; the same ones at every call.

    J is the derivative of the picture at the encoder's input size. v is normal, on such a scale that the mean
    of the squares is the curvature of the mean squared error.
    """
    source = torch.Generator().manual_seed(_SEED)
    device = model.latent_avg.device
    generator, (height, width) = model.generator, model.input_size
    scale = math.sqrt(2 / (3 * height * width))
    found: list[Tensor] = []
    with torch.inference_mode(False), float32_products():
        networks = model.networks(precision="fp32")
        for first in range(0, n, batch_size):
            size = min(batch_size, n - first)
            z = torch.randn(size, generator.config.z_dim, generator=source)
            v = torch.randn(size, 3, height, width, generator=source)
            labels = generator.mapping.random_labels(size, source)
            with torch.no_grad():
                w = generator.mapping(z.to(device), labels=labels)
            w = w[:, None].repeat(1, generator.n_styles, 1)
            with torch.enable_grad():
                drawn = model.to_input(model.draw(w.requires_grad_(), networks))
                [gradient] = torch.autograd.grad((drawn * v.to(device)).sum() * scale, w)
            found.append(gradient.cpu())
    return torch.cat(found)


@dataclass(frozen=True, eq=False)
class Coordinates:
    """A linear map A into W+ with A^T (curvature) A about the identity.

    A = blocks (rest (1 - basis basis^T) + basis gains basis^T).
    """

    blocks: Tensor  # of each style layer, [n_styles, w_dim, w_dim], symmetric
    basis: Tensor  # orthonormal, [n_styles * w_dim, k]
    gains: Tensor  # [k]
    rest: float

    def latents(self, u: Tensor) -> Tensor:
        """Coordinates [N, n_styles * w_dim] -> differences of latents [N, n_styles, w_dim]."""
        return (
            self._evened(u)
            .view(-1, *self.blocks.shape[:2])
            .transpose(0, 1)
            .matmul(self.blocks)
            .transpose(0, 1)
        )

    def gradient(self, of_latents: Tensor) -> Tensor:
        """A gradient by latents [N, n_styles, w_dim] -> by coordinates [N, n_styles * w_dim]."""
        by_layer = of_latents.transpose(0, 1).matmul(self.blocks).transpose(0, 1)
        return self._evened(by_layer.flatten(1))

    def _evened(self, u: Tensor) -> Tensor:
        return self.rest * u + (u @ self.basis * (self.gains - self.rest)) @ self.basis.T

    def to(self, device: torch.device) -> Coordinates:
        """The same on a device."""
        blocks, basis, gains = (each.to(device) for each in (self.blocks, self.basis, self.gains))
        return Coordinates(blocks, basis, gains, self.rest)


def coordinates(gradients: Tensor, more: float = 0.0) -> Coordinates:
    """From what :func:`gradients` found.

    Args:
        more: curvature that an objective has in every direction beside that of the mean squared error.
    """
    n, n_styles, w_dim = gradients.shape
    g = gradients.double()
    least = _LEAST * float(g.square().mean()) + more
    blocks = torch.stack([_block(g[:, layer], least) for layer in range(n_styles)])
    even = torch.einsum("nld,lde->nle", g, blocks).flatten(1)
    _, singular, axes = torch.linalg.svd(even, full_matrices=False)
    # Few gradients in many dimensions make the largest directions look too large: towards their mean.
    share = n / (n + n_styles * w_dim)
    rest = (1 - share) * float(even.square().mean()) + more * float(blocks.square().mean()) * w_dim
    curvature = share * singular.square() / n + rest
    return Coordinates(
        blocks.float(),
        axes.T.float().contiguous(),
        curvature.clamp(min=_LEAST_BETWEEN).rsqrt().float(),
        max(rest, _LEAST_BETWEEN) ** -0.5,
    )


def _block(gradients: Tensor, least: float) -> Tensor:
    """The inverse square root of one layer's curvature, [w_dim, w_dim]."""
    values, axes = torch.linalg.eigh(gradients.T @ gradients / len(gradients))
    return (axes * (values.clamp(min=0) + least).rsqrt()) @ axes.T
