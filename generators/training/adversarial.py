"""What generator and discriminator are trained with: losses, their regularisers, and mixed styles.

Every function is differentiable, averages over the batch and leaves its weight to the caller.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from generators.stylegan2 import Generator

# How fast the target of path lengths follows them (arXiv 1912.04958, appendix B).
PATH_LENGTH_DECAY = 0.01


def generator_loss(fake_scores: Tensor) -> Tensor:
    """Non-saturating logistic loss of the generator: mean of -log sigmoid(D(G(z))).

    Goodfellow et al. 2014 (arXiv 1406.2661, section 3).

    Args:
        fake_scores: [N], the discriminator's scores of generated images.
    """
    return F.softplus(-fake_scores).mean()


def discriminator_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """Logistic loss of the discriminator: mean of -log sigmoid(D(x)) - log(1 - sigmoid(D(G(z)))).

    Goodfellow et al. 2014 (arXiv 1406.2661, equation 1).

    Args:
        real_scores: [N]; fake_scores: [M].
    """
    return F.softplus(-real_scores).mean() + F.softplus(fake_scores).mean()


def hinge_generator_loss(fake_scores: Tensor) -> Tensor:
    """Mean of -D(G(z)) (Lim and Ye 2017, arXiv 1705.02894); fake_scores [N]."""
    return -fake_scores.mean()


def hinge_discriminator_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """Mean of max(0, 1 - D(x)) + max(0, 1 + D(G(z))) (arXiv 1705.02894); real_scores [N], fake_scores [M]."""
    return F.relu(1 - real_scores).mean() + F.relu(1 + fake_scores).mean()


def r1_penalty(discriminator: Callable[[Tensor], Tensor], real: Tensor) -> Tensor:
    """Mean over the batch of |grad_x D(x)|^2 at real x: the squared L2 norm, summed over all of one x.

    Mescheder et al. 2018 (arXiv 1801.04406, equation 9) multiply it by gamma / 2; so must the caller.

    Args:
        discriminator: real [N, ...] -> scores [N].
        real: real images, or style vectors for a discriminator of those.
    """
    real = real.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(real).sum(), real, create_graph=True)
    return gradient.float().square().sum() / len(real)


def path_length(
    image: Tensor, w_plus: Tensor, mean: Tensor, draw: torch.Generator
) -> tuple[Tensor, Tensor]:
    """How far a step in W moves the image, against what it did lately.

    Karras et al. 2020 (arXiv 1912.04958, equation 4 and appendix B): the mean over the batch of
    (|J^T y| - a)^2, where J is the image's Jacobian, y is a normal image divided by the square root of its
    number of pixels, and |.| is the root of the mean over layers of the squared L2 norm of each layer's part.

    Args:
        image: [N, 3, H, W], computed from ``w_plus`` with its graph.
        w_plus: [N, n_styles, w_dim].
        mean: a, the moving average of lengths, a scalar without gradient.
        draw: of y; on the device of ``image``, or on the CPU.

    Returns: the penalty, and the moving average after these lengths, without gradient.
    """
    y = torch.randn(image.shape, generator=draw, device=draw.device).to(image.device)
    y = y / math.sqrt(image.shape[2] * image.shape[3])
    (gradient,) = torch.autograd.grad((image * y).sum(), w_plus, create_graph=True)
    lengths = gradient.float().square().sum(dim=2).mean(dim=1).sqrt()
    following = mean.lerp(lengths.detach().mean(), PATH_LENGTH_DECAY)
    return (lengths - mean).square().mean(), following


def mixed_styles(
    generator: Generator,
    z1: Tensor,
    z2: Tensor,
    draw: torch.Generator,
    probability: float,
    labels: Tensor | None = None,
) -> Tensor:
    """Style vectors of ``z1``, and from a random layer on those of ``z2``, as z1 or z2 [N, z_dim] say.

    Mixing regularisation (Karras et al. 2019, arXiv 1812.04948, section 3.1): neighbouring layers then
    cannot rely on each other.

    Args:
        draw: of the layer, another one for each sample; on the device of ``z1``, or on the CPU.
        probability: that a sample is mixed at all.
        labels: [N, c_dim] of a conditional generator; both vectors are of the same class.

    Returns: w_plus [N, n_styles, w_dim].
    """
    first = generator.mapping(z1, labels=labels)[:, None].expand(-1, generator.n_styles, -1)
    if not probability:
        return first
    n, device = len(z1), draw.device
    layer = torch.randint(1, generator.n_styles, (n,), generator=draw, device=device)
    mixed = torch.rand(n, generator=draw, device=device) < probability
    switch = mixed[:, None] & (torch.arange(generator.n_styles, device=device) >= layer[:, None])
    second = generator.mapping(z2, labels=labels)[:, None]
    return torch.where(switch[:, :, None].to(first.device), second, first)
