"""The residual loop (arXiv 2104.02699, section 3.1): plain tensor code, to be run, compiled or captured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from encoders.restyle import ReStyle

# Resizing with overshoot leaves [-1, 1] by a little; grey levels of 0 to 255 leave it by far.
_PLAUSIBLE_MAX = 2.0


@dataclass(frozen=True)
class Inversion:
    """What an inversion found."""

    latents: Tensor  # after each step, [n_steps, N, n_styles, w_dim] float32
    # Drawn from them, what the model's view shows: last step [N, 3, H, W] or all
    # [n_steps, N, 3, H, W], float32.
    images: Tensor
    thumbnails: Tensor  # those of every step at the encoder's input size, [n_steps, N, 3, h, w]
    target: Tensor  # the given images at that size, [N, 3, h, w]: what distances compare with
    # Of each image, how many of the steps it took, [N] int64; behind them stands its last again. None: all.
    n_taken: Tensor | None = None


class Steps(NamedTuple):
    """What the loop computes: entries of `Inversion`."""

    latents: Tensor
    images: Tensor
    thumbnails: Tensor


class Step(NamedTuple):
    """What one step computes."""

    latents: Tensor  # [N, n_styles, w_dim] float32
    images: Tensor  # [N, 3, H, W]
    thumbnails: Tensor  # the same at the encoder's input size, [N, 3, h, w]


@dataclass(frozen=True, eq=False)
class Networks:
    """The two networks of a model as functions of one tensor, their weights at hand."""

    encode: Callable[[Tensor], Tensor]  # [N, 6 or 3, h, w] -> style deltas [N, n_styles, w_dim]
    synthesize: Callable[..., Tensor]  # latents [N, n_styles, w_dim] -> images [N, 3, H, W]
    dtype: torch.dtype  # that the encoder takes
    average_image: Tensor  # where they start, as the encoder sees it, [3, h, w] float32


def loop(
    models: Sequence[ReStyle],
    networks: Sequence[Networks],
    target: Tensor,
    keep_images: bool = False,
) -> Steps:
    """Step k with the k-th model and its networks; where to start is the first one's.

    Args:
        target: [N, 3, h, w] float32 in [-1, 1] at the encoder's input size, on the models' device.
        keep_images: the images of every step instead of the last one's.
    """
    latents: list[Tensor] = []
    drawn: list[Tensor] = []
    thumbnails: list[Tensor] = []
    current, reconstruction = models[0].start(len(target), networks[0])
    for model, of in zip(models, networks, strict=True):
        current, image, reconstruction = one_step(model, of, target, reconstruction, current)
        latents.append(current)
        thumbnails.append(reconstruction)
        drawn = [*drawn, image] if keep_images else [image]
    images = torch.stack(drawn) if keep_images else drawn[0]
    return Steps(torch.stack(latents), images, torch.stack(thumbnails))


def one_step(
    model: ReStyle, networks: Networks, target: Tensor, reconstruction: Tensor, latents: Tensor
) -> Step:
    """From latents and what is drawn of them to the next; arguments as of `ReStyle.step`."""
    latents = model.step(target, reconstruction, latents, networks)
    images = model.draw(latents, networks)
    return Step(latents, images, model.to_input(images))


def require_arguments(images: Tensor, n_steps: int, max_steps: int | None) -> None:
    """Raise a ValueError unless a model of `max_steps` can take so many steps on these images."""
    if isinstance(n_steps, bool) or not isinstance(n_steps, int) or n_steps < 1:
        raise ValueError(f"n_steps must be a whole number of at least 1, not {n_steps!r}")
    if max_steps is not None and n_steps > max_steps:
        raise ValueError(
            f"this encoder sees no reconstruction (pSp, e4e), so it has one step, not {n_steps}; "
            "pass n_steps=1"
        )
    require_images(images)


def require_images(images: Tensor) -> None:
    """Raise a ValueError unless these are images [N, 3, h, w], floating point, in [-1, 1]."""
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
        raise ValueError(
            f"images must be [N, 3, height, width] with at least one image, not "
            f"{list(images.shape)}"
        )
    if not images.is_floating_point():
        raise ValueError(
            f"images must be floating point in [-1, 1], not {images.dtype}; "
            "for grey levels use images / 127.5 - 1"
        )
    if images.abs().max() > _PLAUSIBLE_MAX:
        raise ValueError(
            f"images must lie in [-1, 1], but reach {images.abs().max():.4g}; "
            "for grey levels use images / 127.5 - 1"
        )
