"""Latent optimisation in W+, and its start from an encoder: the slow, accurate baselines.

The projector of StyleGAN2 (Karras et al. 2020, arXiv 1912.04958, section 5 and appendix D) with one
style vector for each layer, as pSp and ReStyle use it to compare with. Three things differ. The
objective is the caller's: the published one is LPIPS, whose weights are not always at hand, so the
default is the distance by which the steps of an encoder are judged, MSE at its input size. Noise
maps stay the generator's own, as everywhere in this project. And all images of a batch get the same
random numbers, so that a result does not depend on where its image stands.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from encoders.loop import Inversion, require_images
from encoders.metrics import distances
from encoders.restyle import ReStyle
from generators.precision import float32_products

Objective = Callable[[Tensor, Tensor], Tensor]  # image and target, [N, 3, h, w] twice -> [N]

# Appendix D: as many samples of the mapping tell how wide W is.
_N_SPREAD = 10_000


@dataclass(frozen=True)
class OptimizationConfig:
    """How long and how boldly to search; the defaults are the projector's, but for its 1,000 steps."""

    n_steps: int = 500  # updates of Adam; the comparisons of the ReStyle paper give 500
    lr: float = 0.1  # learning rate between the two ramps
    betas: tuple[float, float] = (0.9, 0.999)  # Adam's memory of gradients and of their squares
    rampup: float = 0.05  # share of the steps, at the start, in which it grows from 0
    rampdown: float = 0.25  # share of the steps, at the end, in which it falls to 0
    noise: float = (
        0.05  # added to the latents at first, in parts of W's spread; 0 from a good start
    )
    noise_ramp: float = 0.75  # share of the steps after which none is left
    keep_best: bool = (
        False  # answer with the least objective so far, the start's among them, not the last
    )
    keep_steps: tuple[
        int, ...
    ] = ()  # steps to answer with beside the last, ascending; 0 is the start
    seed: int = 0  # of the noise

    def __post_init__(self) -> None:
        for name in ("betas", "keep_steps"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.n_steps < 1:
            raise ValueError(f"n_steps must be at least 1, not {self.n_steps}")
        if list(self.keep_steps) != sorted(
            k for k in set(self.keep_steps) if 0 <= k < self.n_steps
        ):
            raise ValueError(
                f"keep_steps must ascend from 0 to at most {self.n_steps - 1}, for the last step is "
                f"kept in any case; they are {self.keep_steps}"
            )

    def rate(self, step: int) -> float:
        """Learning rate of the update that follows ``step`` others: a linear ramp up, half a cosine
        down."""
        t = step / self.n_steps
        down = min(1.0, (1 - t) / self.rampdown) if self.rampdown else 1.0
        up = min(1.0, t / self.rampup) if self.rampup else 1.0
        return self.lr * up * (0.5 - 0.5 * math.cos(math.pi * down))

    def noise_at(self, step: int) -> float:
        """Strength of the noise after ``step`` updates, in parts of W's spread."""
        remainder = max(0.0, 1 - step / self.n_steps / self.noise_ramp) if self.noise_ramp else 0.0
        return self.noise * remainder**2


HYBRID = OptimizationConfig(n_steps=50, lr=0.2, betas=(0.9, 0.9), noise=0.0, keep_best=True)
"""From an encoder's answer: no noise, for nothing is to be forgotten, and the start counts. With so few
steps Adam must not remember the first gradients, which are the largest: on the demo model this goes
as far as the projector's settings do in 500 steps."""


def optimize(
    model: ReStyle,
    images: Tensor,
    config: OptimizationConfig = OptimizationConfig(),
    start: Tensor | None = None,
    objective: Objective = distances.mse,
) -> Inversion:
    """Latents of least objective, found by Adam from a start, for each image by itself.

    Values that are not finite are returned as they come.

    Args:
        images: [N, 3, h, w], floating point, in [-1, 1]; resized if need be.
        start: latents [N, n_styles, w_dim]; None = the average, for all images.
        objective: what to make small, of what the model draws and the images, at the encoder's
            input size; differentiable, and one number for each image.

    Returns:
        As `ReStyle.invert`; its steps are `keep_steps` and the last one.

    Raises:
        ValueError: another shape, type or range of `images`, or another shape of `start`.
        RuntimeError: out of memory, from torch.
    """
    require_images(images)
    with torch.inference_mode(False), torch.no_grad(), float32_products(model.precision):
        target = model.to_input(images.to(model.latent_avg.device, torch.float32)).clone()
        latents = _start(model, start, len(target))
        kept = _search(model, target, latents, config, objective)
        drawn = [model.draw(each) for each in kept]
        return Inversion(
            latents=torch.stack(kept),
            images=drawn[-1],
            thumbnails=torch.stack([model.to_input(each) for each in drawn]),
            target=target,
        )


def hybrid(
    model: ReStyle,
    images: Tensor,
    n_encoder_steps: int = 5,
    config: OptimizationConfig = HYBRID,
    objective: Objective = distances.mse,
) -> Inversion:
    """ReStyle finds where to start, optimisation goes on from there; arguments as of `optimize`."""
    start = model.invert(images, n_encoder_steps).latents[-1]
    return optimize(model, images, config, start, objective)


def _start(model: ReStyle, start: Tensor | None, n: int) -> Tensor:
    shape = (n, *model.latent_avg.shape)
    if start is None:
        return model.latent_avg.expand(shape).clone()
    if start.shape != shape:
        raise ValueError(
            f"start must be {list(shape)}, one latent per image, not {list(start.shape)}"
        )
    return start.to(model.latent_avg).clone()


def _search(
    model: ReStyle,
    target: Tensor,
    latents: Tensor,
    config: OptimizationConfig,
    objective: Objective,
) -> list[Tensor]:
    """The latents of every step that is to be kept, the last one's at the end."""
    optimizer = torch.optim.Adam([latents], lr=config.lr, betas=config.betas)
    noise = _Noise(model, config)
    best, least = latents.clone(), torch.full_like(latents[:, 0, 0], torch.nan)
    kept: list[Tensor] = []
    for step in range(config.n_steps + 1):
        with torch.enable_grad():
            tried = (latents + noise(step)).requires_grad_()
            losses = objective(model.to_input(model.draw(tried)), target)
            total = losses.sum()  # over images: each gets the gradient that it has alone
        if config.keep_best:
            # A target that is not finite has no best: its latents come as they are.
            better = ((losses < least) | least.isnan())[:, None, None]
            best = torch.where(better, tried.detach(), best)
            least = torch.where(better[:, 0, 0], losses.detach(), least)
        if step in (*config.keep_steps, config.n_steps):
            kept.append((best if config.keep_best else latents).detach().clone())
        if step < config.n_steps:
            # With respect to the latents alone, whatever else of the model could be trained.
            [latents.grad] = torch.autograd.grad(total, tried)
            optimizer.param_groups[0]["lr"] = config.rate(step)
            optimizer.step()
    return kept


class _Noise:
    """What is added to the latents before they are drawn: the same for every image."""

    def __init__(self, model: ReStyle, config: OptimizationConfig) -> None:
        self.config, self.like = config, model.latent_avg
        self.source = torch.Generator().manual_seed(config.seed)
        self.spread = spread(model, config.seed) if config.noise else 0.0

    def __call__(self, step: int) -> Tensor | float:
        """[n_styles, w_dim], or 0.0 where none is left."""
        strength = self.spread * self.config.noise_at(step)
        if not strength:
            return 0.0
        return strength * torch.randn(self.like.shape, generator=self.source).to(self.like.device)


@torch.no_grad()
def spread(model: ReStyle, seed: int = 0) -> float:
    """Root mean square distance of the mapping's style vectors from their mean: how wide W is."""
    source = torch.Generator().manual_seed(seed)
    z = torch.randn(_N_SPREAD, model.generator.config.z_dim, generator=source)
    mapping = model.generator.mapping
    w = mapping(z.to(model.latent_avg.device), labels=mapping.random_labels(_N_SPREAD, source))
    return (w - w.mean(dim=0)).square().sum(dim=1).mean().sqrt().item()
