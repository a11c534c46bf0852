"""Two models one after the other (ReStyle, arXiv 2104.02699, section 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor

from encoders.execution import Execution
from encoders.loop import Inversion, require_arguments
from encoders.restyle import ReStyle, from_pixels, invert
from generators.precision import Precision


class Bootstrap:
    """One step of a first model, the others of a second (section 3.3 of the paper).

    An encoder of photos finds where to start, an encoder of another domain (toonify) goes on. Each
    step's image comes from the generator of the model whose step it is. The attributes are those of
    `ReStyle`, of whichever model they concern.
    """

    max_steps: int | None = None

    def __init__(self, first: ReStyle, second: ReStyle) -> None:
        """Raises ValueError unless the two share latents, input size and picture."""
        for what, a, b in (
            ("latents", first.latent_avg.shape, second.latent_avg.shape),
            ("input size", first.input_size, second.input_size),
            ("view", first.view, second.view),
        ):
            if a != b:
                raise ValueError(
                    f"these models cannot follow each other: the {what} of the first is {a}, of "
                    f"the second {b}"
                )
        if second.max_steps is not None:
            raise ValueError(
                "the second model sees no reconstruction, so it cannot continue from one"
            )
        self.first, self.second = first, second
        self.generator, self.view = second.generator, second.view
        self.input_size, self.latent_avg = first.input_size, first.latent_avg
        self.execution = Execution(first.execution.wanted)

    def at(self, precision: Precision) -> Bootstrap:
        """Both models at another precision. Returns itself."""
        self.first.at(precision)
        self.second.at(precision)
        return self

    def to(self, device: str | torch.device) -> Bootstrap:
        """Both models on another device. Returns itself."""
        self.first.to(device)
        self.second.to(device)
        return self

    @property
    def average_image(self) -> Tensor:
        """Where the first model starts, as its encoder sees it, [3, h, w] float32."""
        return self.first.average_image

    def invert(self, images: Tensor, n_steps: int = 5, keep_images: bool = False) -> Inversion:
        """As `ReStyle.invert`; the first of the steps is the first model's."""
        require_arguments(images, n_steps, self.max_steps)
        return invert(self.execution, self._models(n_steps), images, keep_images)

    def invert_pixels(self, pixels_u8: Tensor, n_steps: int = 5) -> Inversion:
        """As `ReStyle.invert_pixels`."""
        return invert(self.execution, self._models(n_steps), from_pixels(pixels_u8))

    def invert_exactly(self, images: Tensor, n_steps: int = 5) -> Inversion:
        """As `ReStyle.invert_exactly`."""
        return invert(Execution(), self._models(n_steps), images, precision="fp32")

    def draw_kept(self, latents: Tensor, precision: Precision | None = None) -> Tensor:
        """As in ReStyle, drawn by the second model."""
        return self.second.draw_kept(latents, precision)

    def _models(self, n_steps: int) -> list[ReStyle]:
        return [self.first] + [self.second] * (n_steps - 1)


def bootstrap(first: ReStyle, second: ReStyle) -> Bootstrap:
    """One step of `first`, the others of `second`; ValueError where they do not fit together."""
    return Bootstrap(first, second)
