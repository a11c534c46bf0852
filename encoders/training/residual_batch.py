"""A training batch on its way through the residual loop, in parts that are computed one after the other."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from encoders.restyle import ReStyle
from encoders.training.config import EncoderTrainConfig
from encoders.training.disturbance import disturb, estrange
from generators.training.parallel import rank


@dataclass
class Part:
    """Some images of a batch, and where the loop is with them."""

    share: float  # of the batch's images
    target: Tensor  # what is asked for, at the encoder's input size, [N, 3, h, w]
    seen: Tensor  # what the encoder sees in its place: the same, or disturbed
    w: Tensor | None  # that the images were drawn from, [N, w_dim], where that is known
    latents: Tensor  # after the last step, [N, n_styles, w_dim], without a graph
    reconstruction: Tensor  # drawn from them, at the encoder's input size
    drawn: Tensor | None = None  # the same in full, where a discriminator wants it


def random_source(seed: int, global_step: int, device: torch.device) -> torch.Generator:
    """What is random in the batch after `global_step` on this worker, drawn on the device that needs it.

    A GPU draws other numbers than a CPU, so a run goes on to the same weights on the same kind of device.
    """
    own = (seed * 1_000_003 + global_step) * 4096 + rank()
    return torch.Generator(device).manual_seed(own % 2**63)


def mirrored(images: Tensor, draw: torch.Generator) -> Tensor:
    """[N, 3, h, w] with half of the images mirrored."""
    chosen = torch.rand(len(images), generator=draw, device=draw.device) < 0.5
    return torch.where(chosen.to(images.device)[:, None, None, None], images.flip(3), images)


@torch.no_grad()
def parts_of(
    images: Tensor,
    z: Tensor | None,
    model: ReStyle,
    config: EncoderTrainConfig,
    draw: torch.Generator,
) -> list[Part]:
    """The parts of a batch before the first step.

    What is random does not depend on how many parts there are.

    Args:
        images: [N, 3, h, w] in [-1, 1], on the model's device.
        z: [N, z_dim] that they were drawn from, on that device.
    """
    n, generator = len(images), model.generator
    target = model.to_input(images)
    n_clean = n - round(config.disturb * n)
    seen = target
    if n_clean < n:
        seen = torch.cat([target[:n_clean], disturb(target[n_clean:], draw)])
    if n_strange := round(config.strange * n):
        strange = estrange(target[:n_strange], draw)
        seen, target = (torch.cat([strange, of[n_strange:]]) for of in (seen, target))
    latents, reconstruction = model.start(n)
    if config.init == "random":
        z_dim = generator.config.z_dim
        start = torch.randn(n, z_dim, generator=draw, device=draw.device).to(images.device)
        labels = generator.mapping.random_labels(n, draw)
        latents = generator.mapping(start, labels=labels)[:, None].expand_as(latents)
        reconstruction = model.to_input(model.draw(latents))
    w = generator.mapping(z) if z is not None and config.pull else None
    whole = (target, seen, latents, reconstruction)
    n_parts = min(config.accumulate, n)
    pieces = [tensor.tensor_split(n_parts) for tensor in whole]
    of_w = [None] * n_parts if w is None else w.tensor_split(n_parts)
    return [
        Part(len(target) / n, target, seen, w, latents, reconstruction)
        for target, seen, latents, reconstruction, w in zip(*pieces, of_w, strict=True)
    ]
