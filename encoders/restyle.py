"""ReStyle (Alaluf et al. 2021, arXiv 2104.02699): inversion by a few passes of a residual encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.style_encoder import SINGLE_PASS, StyleEncoder
from encoders.unet import UNet
from encoders.view import EVERYTHING, View
from generators import Generator

Precision = Literal["fp32", "bf16", "fp16"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
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


@dataclass(frozen=True)
class Parts:
    """What a checkpoint holds or names: the arguments of `ReStyle` but for the precision."""

    encoder: UNet | StyleEncoder
    generator: Generator
    latent_avg: Tensor  # [n_styles, w_dim] or [w_dim]
    input_size: tuple[int, int]  # height and width that the encoder sees
    view: View = EVERYTHING

    @property
    def model_class(self) -> type[ReStyle]:
        """`SinglePass` for an encoder that sees no reconstruction."""
        return SinglePass if self.encoder.config.in_channels == SINGLE_PASS else ReStyle


class ReStyle(nn.Module):
    """An encoder, the generator it was trained with, and the loop between them.

    Each step shows the encoder the image beside the current reconstruction and adds the style
    deltas it answers with to the latent (section 3.1 of the paper). The first reconstruction is the
    average image. Latents are summed in float32 at any precision.

    `start`, `step`, `draw` and `to_input` are the loop's parts, differentiable, for training.
    """

    latent_avg: Tensor
    _average_image: Tensor | None
    max_steps: int | None = None  # that the loop may have; None = any number

    def __init__(
        self,
        encoder: nn.Module,  # [N, 6, h, w] -> style deltas [N, n_styles, w_dim]
        generator: Generator,  # draws the reconstructions, with its stored noise
        latent_avg: Tensor,  # where the loop starts, [n_styles, w_dim] or [w_dim] for all styles
        input_size: tuple[int, int],  # height and width that the encoder sees
        precision: Precision = "fp32",  # of encoder and synthesis
        view: View = EVERYTHING,  # the part of a generated image that is the picture
    ) -> None:
        """Takes the networks over: casts the encoder and sets the generator's compute dtype.

        Raises:
            ValueError: unknown precision, or a latent average or view that does not fit the
                generator.
        """
        super().__init__()
        style_shape = (generator.n_styles, generator.w_dim)
        if latent_avg.shape not in (style_shape, style_shape[1:]):
            raise ValueError(
                f"latent_avg has shape {list(latent_avg.shape)}, but the generator takes "
                f"{list(style_shape)}; use the generator that the encoder was trained with"
            )
        view.size(generator.resolution)  # refuses what reaches beyond the image
        self.view = view
        self.input_size = input_size
        self.encoder = encoder
        self.generator = generator
        self.register_buffer("latent_avg", latent_avg.float().expand(style_shape).clone())
        self.register_buffer("_average_image", None, persistent=False)
        self.at(precision)

    def at(self, precision: Precision) -> ReStyle:
        """The same model, its networks cast to another precision. Returns itself."""
        if precision not in _DTYPES:
            raise ValueError(
                f"precision must be one of {', '.join(get_args(Precision))}, not {precision!r}"
            )
        self.precision = precision
        self.encoder.to(_DTYPES[precision])
        self.generator.synthesis.compute_dtype = _DTYPES[precision]
        self._average_image = None
        return self

    def set_latent_avg(self, latent_avg: Tensor) -> None:
        """Start from another average, [n_styles, w_dim] or [w_dim]."""
        self.latent_avg.copy_(latent_avg.expand_as(self.latent_avg))
        self._average_image = None

    @property
    def average_image(self) -> Tensor:
        """The image of `latent_avg` as the encoder sees it, [3, h, w] float32."""
        if self._average_image is None:
            # Kept for training too, which cannot use a tensor made in inference mode.
            with torch.inference_mode(False), torch.no_grad():
                self._average_image = self.to_input(self.draw(self.latent_avg[None]))[0]
        return self._average_image

    def start(self, n: int) -> tuple[Tensor, Tensor]:
        """Average latents [n, n_styles, w_dim] and average images [n, 3, h, w]."""
        return self.latent_avg.expand(n, -1, -1), self.average_image.expand(n, -1, -1, -1)

    def step(self, target: Tensor, reconstruction: Tensor, latents: Tensor) -> Tensor:
        """One pass of the encoder: the latents [N, n_styles, w_dim] that it corrects to.

        Args:
            target, reconstruction: [N, 3, h, w] at the encoder's input size.
            latents: [N, n_styles, w_dim] float32, those of the reconstruction.
        """
        pair = torch.cat([target, reconstruction], dim=1).to(_DTYPES[self.precision])
        return latents + self.encoder(pair).float()

    def draw(self, latents: Tensor) -> Tensor:
        """Latents [N, n_styles, w_dim] -> images [N, 3, H, W] float32, what the view shows."""
        return self.view.of(self.generator.synthesis(latents, noise="const").float())

    def to_input(self, images: Tensor) -> Tensor:
        """Images of any size -> [N, 3, h, w] at the encoder's input size.

        A whole factor is averaged in blocks, as in the published code; any other is resampled
        bilinearly with a filter as wide as the reduction.
        """
        (height, width), (h, w) = images.shape[-2:], self.input_size
        if (height, width) == (h, w):
            return images
        if height % h == 0 and width % w == 0:
            return F.avg_pool2d(images, (height // h, width // w))
        return F.interpolate(images, (h, w), mode="bilinear", antialias=True)

    def invert(self, images: Tensor, n_steps: int = 5, keep_images: bool = False) -> Inversion:
        """Find latents whose images resemble the given ones.

        A result depends on its image alone, not on the rest of the batch. Values that are not
        finite are returned as they come.

        Args:
            images: [N, 3, h, w], floating point, in [-1, 1]; resized if need be.
            n_steps: passes of the encoder; the first results are the same for any number.
            keep_images: return the images of every step instead of the last one's.

        Raises:
            ValueError: another shape, type or range of `images`, fewer than one step, or several
                steps of a single-pass model.
            RuntimeError: out of memory, from torch.
        """
        _check(images, n_steps, self.max_steps)
        return run([self] * n_steps, images, keep_images)


class SinglePass(ReStyle):
    """A pSp or e4e encoder, which sees the image alone: one step from the average latent.

    Without `start_from_latent_avg`, a pSp model's average is zero.
    """

    max_steps = 1

    def step(self, target: Tensor, reconstruction: Tensor, latents: Tensor) -> Tensor:
        """As in ReStyle, whatever the reconstruction."""
        return latents + self.encoder(target.to(_DTYPES[self.precision])).float()


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
            raise ValueError("the second model sees no reconstruction, so it cannot go on from one")
        self.first, self.second = first, second
        self.generator, self.view = second.generator, second.view
        self.input_size, self.latent_avg = first.input_size, first.latent_avg

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
        _check(images, n_steps, self.max_steps)
        models = [self.first] + [self.second] * (n_steps - 1)
        return run(models, images, keep_images)


def bootstrap(first: ReStyle, second: ReStyle) -> Bootstrap:
    """One step of `first`, the others of `second`; ValueError where they do not fit together."""
    return Bootstrap(first, second)


def run(models: Sequence[ReStyle], images: Tensor, keep_images: bool = False) -> Inversion:
    """The residual loop, step k with the k-th model; where to start is the first one's.

    Args:
        images: [N, 3, h, w] in [-1, 1].
    """
    latents: list[Tensor] = []
    drawn: list[Tensor] = []
    thumbnails: list[Tensor] = []
    with torch.inference_mode():
        target = models[0].to_input(images.to(models[0].latent_avg.device, torch.float32))
        current, reconstruction = models[0].start(len(target))
        for model in models:
            current = model.step(target, reconstruction, current)
            image = model.draw(current)
            reconstruction = model.to_input(image)
            latents.append(current)
            thumbnails.append(reconstruction)
            drawn = [*drawn, image] if keep_images else [image]
    # Copied outside inference mode, so that a caller may optimise or train with the results.
    return Inversion(
        latents=torch.stack(latents),
        images=torch.stack(drawn) if keep_images else drawn[0].clone(),
        thumbnails=torch.stack(thumbnails),
        target=target.clone(),
    )


def _check(images: Tensor, n_steps: int, max_steps: int | None) -> None:
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
