"""A bound that keeps latents in the part of W that the mapping fills, so that a strange photo stays a face.

Each style vector is looked at along the principal axes of W: those of the covariance of many mapped random
vectors. A coordinate c, in standard deviations of its axis, becomes S tanh(c / S): near the mean almost
itself, never beyond S. The axes are a complete basis, so that nothing of a latent lies outside of them.
Where W has almost no spread, any deviation would count as infinite: no axis counts as narrower than
`LEAST_SPREAD` of the widest, so that along it a latent can move by S times that and no further.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from generators import StyleBasedGenerator, claims

N_SAMPLES = 8192  # of the mapping, behind mean and axes
N_AT_ONCE = 1024
LEAST_SPREAD = 1e-3  # of an axis, as a share of the widest one's
MAX_LIMIT = 1e6  # standard deviations; far beyond any latent
_TENSORS = ("mean", "axes", "spread")


class Bound(nn.Module):
    """Latents to latents that stay within `limit` standard deviations along each axis of W.

    Computed in float64: the same at any precision of the networks, in autocast, and on a GPU that rounds
    products of float32. Differentiable. What is not finite stays so.
    """

    mean: Tensor
    axes: Tensor
    spread: Tensor

    def __init__(
        self,
        limit: float,  # standard deviations
        mean: Tensor,  # of W, [w_dim] float64
        axes: Tensor,  # [w_dim, w_dim] float64, an axis a column, orthonormal
        spread: Tensor,  # standard deviation along each, [w_dim] float64
        is_kept: bool = True,  # read from a file or meant for one: these numbers are part of the model
    ) -> None:
        """Raises ValueError for a limit that is none, or tensors that do not fit together."""
        super().__init__()
        require_limit(limit)
        tensors = {"mean": mean, "axes": axes, "spread": spread}
        n, is_outline = spread.numel(), spread.device.type == "meta"
        for name, shape in (("mean", [n]), ("axes", [n, n]), ("spread", [n])):
            tensor = tensors[name]
            is_exact = tensor.dtype == torch.float64 or is_outline
            if list(tensor.shape) != shape or not is_exact:
                raise ValueError(f"the {name} of a bound must be {shape} float64")
            self.register_buffer(name, tensor)
        if not is_outline:
            if not all(tensor.isfinite().all() for tensor in tensors.values()):
                raise ValueError("the numbers of a bound must be finite")
            if not spread.min() > 0:
                raise ValueError("the spread of a bound must be above 0")
        self.limit, self.is_kept = float(limit), is_kept

    def forward(self, latents: Tensor) -> Tensor:
        """[N, n_styles, w_dim] float32 -> the same shape, within the bound."""
        exact = latents.double()
        along = (exact - self.mean) @ self.axes
        reach = self.limit * self.spread
        # By how much they move, not where to: so that infinity and NaN remain.
        moved = (reach * torch.tanh(along / reach) - along) @ self.axes.mT
        return (exact + moved).to(latents.dtype)

    def at(self, limit: float) -> Bound:
        """The same axes with another limit."""
        other = copy.deepcopy(self)
        require_limit(limit)
        other.limit = float(limit)
        return other

    def tensors(self) -> dict[str, Tensor]:
        """What a file keeps of it besides the limit."""
        return {name: getattr(self, name) for name in _TENSORS}

    def identity(self) -> dict[str, Tensor]:
        """What of it is part of the model's identity: nothing where it follows from the generator."""
        if not self.is_kept:
            return {}
        limit = torch.tensor(self.limit, dtype=torch.float64)
        return {f"bound.{name}": t for name, t in {**self.tensors(), "limit": limit}.items()}


def of_generator(generator: StyleBasedGenerator, limit: float, is_kept: bool = False) -> Bound:
    """The bound along the axes of a generator's W: on every machine the same but for the last bits."""
    mapping = copy.deepcopy(generator.mapping).to("cpu", torch.float64)
    source = torch.Generator().manual_seed(0)
    with torch.inference_mode(False), torch.no_grad():
        shape = N_SAMPLES, mapping.z_dim
        z = torch.randn(shape, generator=source, dtype=torch.float64)
        labels = mapping.random_labels(N_SAMPLES, source)
        parts = z.split(N_AT_ONCE)
        of_parts = [None] * len(parts) if labels is None else labels.split(N_AT_ONCE)
        pairs = zip(parts, of_parts, strict=True)
        w = torch.cat([mapping(part, labels=of_part) for part, of_part in pairs])
        mean = w.mean(dim=0)
        if not mean.isfinite().all():
            raise ValueError("the generator's mapping gives style vectors that are not finite")
        off = w - mean
        variance, axes = torch.linalg.eigh(off.T @ off / (N_SAMPLES - 1))
        spread = variance.clamp_min(0).sqrt()
        spread = spread.clamp_min(max(LEAST_SPREAD * spread.max().item(), 1e-12))
        # An eigenvector may point either way: its largest entry is positive.
        largest = axes.gather(0, axes.abs().argmax(dim=0, keepdim=True))
        return Bound(limit, mean, (axes * largest.sign()).contiguous(), spread, is_kept)


def from_file(limit: Any, tensors: Mapping[str, Tensor], w_dim: int) -> Bound:
    """The bound that a file describes.

    Raises:
        ValueError, KeyError: it describes none that can be.
    """
    bound = Bound(limit, tensors["mean"], tensors["axes"], tensors["spread"])
    if bound.spread.numel() != w_dim:
        raise ValueError(f"its bound is for style vectors of {bound.spread.numel()}, not {w_dim}")
    return bound


def chosen(kept: Bound | None, limit: float | None, generator: StyleBasedGenerator) -> Bound | None:
    """The bound of a model: the file's own, or with another limit; 0 is none at all.

    Args:
        kept: that of the file.
        limit: what was asked for; None: nothing.

    Raises:
        ValueError: a limit that is none.
    """
    if limit is None:
        return kept
    if limit == 0:
        return None
    return kept.at(limit) if kept is not None else of_generator(generator, limit)


def require_limit(limit: Any) -> None:
    """Raise a ValueError unless this is a number of standard deviations."""
    claims.require_positive("the bound", limit)
    if not math.isfinite(limit) or limit > MAX_LIMIT:
        raise ValueError(f"the bound must be at most {MAX_LIMIT:g} standard deviations")
