"""ReStyle (Alaluf et al. 2021, arXiv 2104.02699): inversion by a few passes of a residual encoder."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.bound import Bound
from encoders.execution import Compile, Execution
from encoders.folded import fold
from encoders.loop import Inversion, Networks, require_arguments
from encoders.style_encoder import SINGLE_PASS, StyleEncoder
from encoders.unet import UNet
from encoders.view import EVERYTHING, View
from generators import StyleBasedGenerator
from generators.derived import Derived
from generators.precision import Precision, dtype_of, float32_products


@dataclass(frozen=True)
class Parts:
    """What a checkpoint holds or names: the arguments of `ReStyle` but for the precision."""

    encoder: UNet | StyleEncoder
    generator: StyleBasedGenerator
    latent_avg: Tensor  # [n_styles, w_dim] or [w_dim]
    input_size: tuple[int, int]  # height and width that the encoder sees
    view: View = EVERYTHING
    bound: Bound | None = None  # of the latents after each step

    @property
    def model_class(self) -> type[ReStyle]:
        """`SinglePass` for an encoder that sees no reconstruction."""
        return SinglePass if self.encoder.config.in_channels == SINGLE_PASS else ReStyle


class ReStyle(nn.Module):
    """An encoder, the generator it was trained with, and the loop between them.

    Each step shows the encoder the image beside the current reconstruction and adds the style
    deltas it answers with to the latent (section 3.1 of the paper), within the model's bound where it
    has one. The first reconstruction is the average image. Latents are summed in float32 at any precision.

    `start`, `step`, `draw` and `to_input` are the loop's parts, differentiable, for training.
    """

    latent_avg: Tensor
    max_steps: int | None = None  # that the loop may have; None = any number
    # Whether inference folds a published encoder, which takes as much memory again: not in training.
    folds: bool = False

    def __init__(
        self,
        encoder: nn.Module,  # [N, 6, h, w] -> style deltas [N, n_styles, w_dim]
        generator: StyleBasedGenerator,  # draws the reconstructions, with its stored noise
        latent_avg: Tensor,  # where the loop starts, [n_styles, w_dim] or [w_dim] for all styles
        input_size: tuple[int, int],  # height and width that the encoder sees
        precision: Precision = "fp32",  # of encoder and synthesis
        view: View = EVERYTHING,  # the part of a generated image that is the picture
        compile: Compile = "never",
        bound: Bound | None = None,  # of the latents after each step; None: none
    ) -> None:
        """Takes the generator over: sets its compute dtype. Weights stay float32 at any precision.

        Raises:
            ValueError: unknown precision, or a latent average, view or bound that does not fit the
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
        if bound is not None and bound.spread.numel() != generator.w_dim:
            raise ValueError(f"the bound is for style vectors of {bound.spread.numel()}")
        self.bound = bound
        self.view = view
        self.input_size = input_size
        self.encoder = encoder
        self.generator = generator
        self.register_buffer("latent_avg", latent_avg.float().expand(style_shape).clone())
        self.execution = Execution(compile)
        self._derived: Derived[Networks] = Derived()
        self._average_image: Tensor | None = None
        self.at(precision)

    def at(self, precision: Precision) -> ReStyle:
        """The same model computing in another precision. Returns itself."""
        self.generator.synthesis.compute_dtype = dtype_of(precision)
        self.precision = precision
        self._average_image = None
        return self

    def _apply(self, *arguments, **named):  # type: ignore[no-untyped-def]  # nn.Module's: .to() and its like
        self._average_image = None
        return super()._apply(*arguments, **named)

    def set_latent_avg(self, latent_avg: Tensor) -> None:
        """Start from another average, [n_styles, w_dim] or [w_dim]."""
        self.latent_avg.copy_(latent_avg.expand_as(self.latent_avg))
        self._average_image = None

    @property
    def average_image(self) -> Tensor:
        """The image of `latent_avg` as the encoder sees it, [3, h, w] float32."""
        if self._average_image is None:
            self._average_image = self.networks().average_image
        return self._average_image

    def networks(self, for_compiler: bool = False, precision: Precision | None = None) -> Networks:
        """Encoder and synthesis: the same object until weights or the average change.

        For inference, where weights are frozen; `start`, `step` and `draw` do without.

        Args:
            for_compiler: the synthesis as a compiler can fuse it.
            precision: another one than the model's.
        """
        precision = precision or self.precision
        synthesis, dtype = self.generator.synthesis, dtype_of(precision)
        tensors = [
            self.latent_avg,
            *(
                tensor
                for network in (self.encoder, synthesis)
                for tensor in (*network.parameters(), *network.buffers())
            ),
        ]

        def make() -> Networks:
            weights = synthesis.weights(dtype, for_compiler)
            draw = partial(synthesis.draw, noise="const", weights=weights)
            # Kept for training too, which cannot use a tensor made in inference mode.
            with torch.inference_mode(False), torch.no_grad(), float32_products(precision):
                average = self.to_input(self.view.of(draw(self.latent_avg[None])))[0]
                encoder = for_inference(self.encoder, dtype, self.folds)
                return Networks(encoder, draw, dtype, average)

        key = (precision, for_compiler, synthesis.reference, self.folds)
        return self._derived.get(tensors, key, make)

    def start(self, n: int, networks: Networks | None = None) -> tuple[Tensor, Tensor]:
        """Average latents [n, n_styles, w_dim] and average images [n, 3, h, w]."""
        image = self.average_image if networks is None else networks.average_image
        return self.latent_avg.expand(n, -1, -1), image.expand(n, -1, -1, -1)

    def step(
        self,
        target: Tensor,
        reconstruction: Tensor,
        latents: Tensor,
        networks: Networks | None = None,
    ) -> Tensor:
        """One pass of the encoder: the latents [N, n_styles, w_dim] that it corrects to.

        Args:
            target, reconstruction: [N, 3, h, w] at the encoder's input size.
            latents: [N, n_styles, w_dim] float32, those of the reconstruction.
            networks: from `networks()`; None is differentiable, the encoder in float32.
        """
        deltas = self._encode(torch.cat([target, reconstruction], dim=1), networks)
        return self._bounded(latents + deltas)

    def _bounded(self, latents: Tensor) -> Tensor:
        return latents if self.bound is None else self.bound(latents)

    def _encode(self, x: Tensor, networks: Networks | None) -> Tensor:
        """[N, 6 or 3, h, w] float32 -> style deltas [N, n_styles, w_dim] float32."""
        if networks is None:
            return self.encoder(x).float()
        return networks.encode(x.to(networks.dtype)).float()

    def draw(
        self,
        latents: Tensor,
        networks: Networks | None = None,
        transform: Tensor | None = None,
    ) -> Tensor:
        """Latents [N, n_styles, w_dim] -> images [N, 3, H, W] float32, what the view shows.

        Args:
            transform: of a StyleGAN3's content, [3, 3] or [N, 3, 3]; see `StyleGAN3Synthesis.forward`.
        """
        synthesize = self.generator.synthesis if networks is None else networks.synthesize
        moved = {} if transform is None else {"transform": transform}
        return self.view.of(synthesize(latents, **moved))

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
        require_arguments(images, n_steps, self.max_steps)
        return invert(self.execution, [self] * n_steps, images, keep_images)

    def invert_pixels(self, pixels_u8: Tensor, n_steps: int = 5) -> Inversion:
        """`invert` for pictures [N, h, w, 3] uint8: nothing is asked back from the device that has them."""
        return invert(self.execution, [self] * n_steps, from_pixels(pixels_u8))

    def invert_exactly(self, images: Tensor, n_steps: int = 5) -> Inversion:
        """`invert` in float32 whatever the precision: for images whose results were not finite."""
        return invert(Execution(), [self] * n_steps, images, precision="fp32")

    def draw_kept(self, latents: Tensor, precision: Precision | None = None) -> Tensor:
        """Images [N, 3, H, W] float32 of latents [N, n_styles, w_dim] that an inversion found."""
        with (
            torch.inference_mode(False),
            torch.no_grad(),
            float32_products(precision or self.precision),
        ):
            return self.draw(latents, self.networks(precision=precision))


class SinglePass(ReStyle):
    """A pSp or e4e encoder, which sees the image alone: one step from the average latent.

    Without `start_from_latent_avg`, a pSp model's average is zero.
    """

    max_steps = 1

    def step(
        self,
        target: Tensor,
        reconstruction: Tensor,
        latents: Tensor,
        networks: Networks | None = None,
    ) -> Tensor:
        """As in ReStyle, whatever the reconstruction."""
        return self._bounded(latents + self._encode(target, networks))


def for_inference(encoder: nn.Module, dtype: torch.dtype, folds: bool) -> nn.Module:
    """A frozen encoder that computes in a dtype: the same one, or derived from it."""
    if folds and isinstance(encoder, StyleEncoder):
        return fold(encoder, dtype)
    if dtype == torch.float32:
        return encoder
    return copy.deepcopy(encoder).to(dtype)


def from_pixels(pixels_u8: Tensor) -> Tensor:
    """Pictures [N, h, w, 3] uint8 -> images [N, 3, h, w] float32 in [-1, 1], where they are."""
    return pixels_u8.permute(0, 3, 1, 2).float().div(127.5).sub(1)


def invert(
    execution: Execution,
    models: Sequence[ReStyle],
    images: Tensor,
    keep_images: bool = False,
    precision: Precision | None = None,
) -> Inversion:
    """The residual loop, step k with the k-th model; see `ReStyle.invert`.

    Args:
        images: [N, 3, h, w] in [-1, 1] of any size, on any device.
        precision: another one than the models'.
    """
    device = models[0].latent_avg.device
    # Not inference mode, so that a caller may optimise or train with the results.
    with torch.inference_mode(False), torch.no_grad():
        target = models[0].to_input(images.to(device, torch.float32)).clone()
        return Inversion(*execution(models, target, keep_images, precision), target=target)
