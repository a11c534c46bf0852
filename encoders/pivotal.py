"""Pivotal tuning (Roich et al. 2021, arXiv 2106.05744): the generator comes closer to one picture.

An encoder's latent lies where edits act well, but draws the picture only roughly. Tuning leaves the latent,
the pivot, where it is, and changes the generator until it draws the picture there, with the least change
elsewhere: at each step it is also held to what it drew before at a latent near the pivot (section 3.2, the
locality regularisation). Two things differ from the paper: the change is of low rank (`generators.delta`),
and the error is the mean squared one, by which everything here is judged and which needs no file. LPIPS,
which the paper adds, is added where it is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from encoders.metrics import distances
from encoders.optimization import spread
from encoders.restyle import ReStyle
from generators.delta import Delta
from generators.precision import float32_products

Distance = Callable[[Tensor, Tensor], Tensor]  # [N, 3, h, w] twice -> [N]

_N_NEAR = 16  # latents near the pivot at which the generator is to stay as it is, taken in turns
_BETAS = (0.9, 0.99)
# A learning rate at which the error does not fall is too high for a generator: a lower one is tried.
_N_ATTEMPTS, _SLOWER = 3, 0.2
_USUAL_INPUTS = 1152  # 128 channels of 3x3 taps: what the learning rate was chosen for
_RAMPDOWN = 0.25  # share of the steps, at the end, in which the learning rate falls to 0


@dataclass(frozen=True)
class TuningConfig:
    """How long and how boldly to tune."""

    n_steps: int = 100  # updates of Adam
    rank: int = 8  # of the change of each convolution
    lr: float = 0.02  # learning rate
    locality: float = 0.3  # weight of the error near the pivot, where the picture's is 1

    def __post_init__(self) -> None:
        if self.n_steps < 1:
            raise ValueError(f"n_steps must be at least 1, not {self.n_steps}")
        if self.rank < 1:
            raise ValueError(f"the rank must be at least 1, not {self.rank}")
        for name in ("lr", "locality"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be 0 or more, not {getattr(self, name)}")

    def rate(self, step: int) -> float:
        """Learning rate of the update that follows ``step`` others."""
        return self.lr * min(1.0, (1 - step / self.n_steps) / _RAMPDOWN)


@dataclass(frozen=True, eq=False)
class Tuned:
    """What came of a tuning."""

    delta: Delta  # on the model's device; changes nothing where no change was for the better
    before: float  # mean squared error of the picture, by the untouched generator
    after: float  # the same by the tuned one


def tune(
    model: ReStyle,
    latent: Tensor,
    target: Tensor,
    config: TuningConfig = TuningConfig(),
    seed: int = 0,
    added: Sequence[tuple[float, Distance]] = (),
) -> Tuned:
    """A change of the model's generator that draws a picture at its latent; the generator stays as it is.

    Computed in float32 at any precision of the model. The same arguments give the same change.

    Args:
        latent: of the picture, the pivot, [n_styles, w_dim].
        target: the picture in [-1, 1], [3, H, W]: at the size that the model draws, or at its encoder's
            input size.
        seed: of the start, and of the latents near the pivot.
        added: weights, and differentiable distances that are to fall beside the mean squared error, such as
            LPIPS.

    Raises:
        ValueError: another shape of `latent` or `target`.
        RuntimeError: out of memory, from torch.
    """
    device = model.latent_avg.device
    pivot, aim = _checked(model, latent.to(device).float(), target.to(device).float())
    with torch.inference_mode(False), torch.no_grad(), _exact(model), float32_products("fp32"):
        pivot, aim = pivot.clone(), aim.clone()  # usable for derivatives, wherever they come from
        near = _near(model, pivot, seed) if config.locality else pivot[:0]
        for attempt in range(_N_ATTEMPTS):
            slower = replace(config, lr=config.lr * _SLOWER**attempt)
            delta = _tuned(model, pivot, aim, near, slower, seed, added)
            found = _compared(model, pivot, aim, delta, added)
            if found is not None:
                return found
        return _unchanged(model, pivot, aim, delta)


def _tuned(
    model: ReStyle,
    pivot: Tensor,
    aim: Tensor,
    near: Tensor,  # latents at which the generator is to stay as it is, or none
    config: TuningConfig,
    seed: int,
    added: Sequence[tuple[float, Distance]],
) -> Delta:
    """What all steps lead to, good or bad."""
    synthesis = model.generator.synthesis
    kept = torch.cat([synthesis(each[None]) for each in near]) if len(near) else near
    delta = Delta.start(synthesis, config.rank, seed)
    tensors = [tensor.requires_grad_() for tensor in delta.tensors.values()]
    groups = [{"params": [tensor], "share": _share(tensor)} for tensor in tensors]
    optimizer = torch.optim.Adam(groups, betas=_BETAS)
    for step in range(config.n_steps):
        at = slice(step % _N_NEAR, step % _N_NEAR + 1)  # none without a locality
        with torch.enable_grad():
            drawn = delta.draw(synthesis, torch.cat([pivot, near[at]]))
            loss = _objective(_seen(model, drawn[:1], aim), aim, added)
            if len(near):
                loss = loss + config.locality * distances.mse(drawn[1:], kept[at]).sum()
            gradients = torch.autograd.grad(loss, tensors)
        for tensor, gradient in zip(tensors, gradients, strict=True):
            tensor.grad = gradient
        for group in optimizer.param_groups:
            group["lr"] = config.rate(step) * group["share"]
        optimizer.step()
    return Delta.of({name: tensor.detach() for name, tensor in delta.tensors.items()})


def _share(tensor: Tensor) -> float:
    """Of the learning rate, for factors [n, m]: changes of many inputs add up."""
    return min(1.0, math.sqrt(_USUAL_INPUTS / tensor.shape[1]))


def _checked(model: ReStyle, latent: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Both with a batch dimension."""
    shape = model.latent_avg.shape
    if latent.shape != shape:
        raise ValueError(f"the latent must be {list(shape)}, not {list(latent.shape)}")
    sizes = [(3, *model.view.size(model.generator.resolution)), (3, *model.input_size)]
    if target.shape not in sizes:
        wanted = " or ".join(str(list(size)) for size in dict.fromkeys(sizes))
        raise ValueError(f"the picture must be {wanted}, not {list(target.shape)}")
    return latent[None], target[None]


@contextmanager
def _exact(model: ReStyle) -> Iterator[None]:
    """In float32, whatever the model draws in otherwise."""
    synthesis = model.generator.synthesis
    usual, synthesis.compute_dtype = synthesis.compute_dtype, torch.float32
    try:
        yield
    finally:
        synthesis.compute_dtype = usual


def _near(model: ReStyle, pivot: Tensor, seed: int) -> Tensor:
    """Latents on the way from the pivot to random ones of W, [_N_NEAR, n_styles, w_dim].

    Each is as far from the pivot as W is wide, which is about the step alpha of equation 4 of the paper.
    """
    generator = model.generator
    source = torch.Generator().manual_seed(seed)
    z = torch.randn(_N_NEAR, generator.config.z_dim, generator=source)
    labels = generator.mapping.random_labels(_N_NEAR, source)
    ways = generator.mapping(z.to(pivot.device), labels=labels)[:, None] - pivot
    length = ways.flatten(1).norm(dim=1).clamp_min(1e-12)[:, None, None]
    return pivot + ways * (spread(model) * math.sqrt(generator.n_styles) / length)


def _seen(model: ReStyle, drawn: Tensor, aim: Tensor) -> Tensor:
    """What was drawn, at the size of the aim."""
    seen = model.view.of(drawn)
    return seen if seen.shape == aim.shape else model.to_input(seen)


def _objective(seen: Tensor, aim: Tensor, added: Sequence[tuple[float, Distance]]) -> Tensor:
    value = distances.mse(seen, aim).sum()
    for weight, distance in added:
        value = value + weight * distance(seen, aim).sum()
    return value


def _compared(
    model: ReStyle,
    pivot: Tensor,
    aim: Tensor,
    delta: Delta,
    added: Sequence[tuple[float, Distance]],
) -> Tuned | None:
    """What a delta brought; None where it is not for the better."""
    synthesis = model.generator.synthesis
    seen = [_seen(model, each, aim) for each in (synthesis(pivot), delta.draw(synthesis, pivot))]
    first, last = (_objective(each, aim, added).item() for each in seen)
    if not last < first:  # NaN neither
        return None
    before, after = (distances.mse(each, aim).item() for each in seen)
    return Tuned(delta, before, after)


def _unchanged(model: ReStyle, pivot: Tensor, aim: Tensor, delta: Delta) -> Tuned:
    drawn = _seen(model, model.generator.synthesis(pivot), aim)
    error = distances.mse(drawn, aim).item()
    none = {name: torch.zeros_like(tensor) for name, tensor in delta.tensors.items()}
    return Tuned(Delta.of(none), error, error)
