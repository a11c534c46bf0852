"""What each step changes: regions of the picture, and style vectors of the latent."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

# Style vectors of 4 and 8 px, of 16 and 32 px, and finer ones (Karras et al. 2019, section 3.1).
GROUPS = {"coarse (4 to 8 px)": slice(0, 4), "medium (16 to 32 px)": slice(4, 8)}
FINE = "fine (from 64 px)"


@dataclass(frozen=True)
class Changes:
    """Of steps 1 to n; what a step changes is counted from the one before, at first the average."""

    regions: dict[str, list[float]]  # mean squared change of a pixel of the region
    errors: dict[str, list[float]]  # mean squared error of one, of the average image and each step
    styles: list[list[float]]  # [n_steps][n_styles]: length of the change, in parts of W's spread
    groups: dict[str, list[float]]  # their means over coarse, medium and fine styles


def measure(
    targets: Tensor, images: Tensor, latents: Tensor, masks: dict[str, Tensor], spread: float
) -> Changes:
    """Args:
    targets: [N, 3, h, w]; masks: region -> shares [N, h, w].
    images, latents: the average's and those of each step, [1 + n_steps, N, ...].
    spread: root mean square distance of style vectors from their mean.
    """
    changed = (images[1:] - images[:-1]).square().mean(dim=2)
    wrong = (images - targets).square().mean(dim=2)
    lengths = (latents[1:] - latents[:-1]).norm(dim=-1).mean(dim=1) / spread
    groups = {**GROUPS, FINE: slice(8, None)}
    return Changes(
        regions={name: _within(changed, mask) for name, mask in masks.items()},
        errors={name: _within(wrong, mask) for name, mask in masks.items()},
        styles=lengths.tolist(),
        groups={
            name: lengths[:, part].mean(dim=1).tolist()
            for name, part in groups.items()
            if lengths[:, part].numel()
        },
    )


def heat(images: Tensor) -> Tensor:
    """Mean absolute change by each step, over portraits and colours: [n_steps, h, w]."""
    return (images[1:] - images[:-1]).abs().mean(dim=(1, 2))


def _within(maps: Tensor, mask: Tensor) -> list[float]:
    """Means of maps [n, N, h, w] over a region's pixels in all portraits."""
    total = mask.sum().clamp_min(1e-6)
    return ((maps * mask).sum(dim=(1, 2, 3)) / total).tolist()
