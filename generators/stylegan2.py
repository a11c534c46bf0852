"""StyleGAN2 (Karras et al. 2020, arXiv 1912.04958) at any resolution and width. Networks do no I/O."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from generators import claims, ops
from generators.derived import Derived
from generators.layers import (
    RESIDUAL_GAIN,
    Residual,
    StyledConv,
    Styles,
    ToRGB,
    normal,
)
from generators.style_based import (
    Mapping,
    Noise,
    StyleBasedGenerator,
    require_mapping,
    require_noise,
    require_w_plus,
)
from generators.styled_conv import Formulation, Upsampling

Architecture = Literal["skip", "resnet", "orig"]
# Far beyond any generator there is: what a damaged or hostile file may ask for.
MAX_RESOLUTION = 1 << 14
# Pixels from which a compiled generator on a GPU doubles by phases; below, by a transposed convolution.
POLYPHASE_SIZE = 256


@dataclass(frozen=True)
class GeneratorConfig:
    """The shape of a generator; everything that its weights do not say."""

    resolution: int  # height and width of the image, a power of two
    channels: tuple[int, ...]  # feature maps at 4, 8, ..., resolution
    z_dim: int = 512  # entries of the normal vector that the mapping takes
    w_dim: int = 512  # entries of one style vector
    n_mapping_layers: int = 8  # fully connected layers of the mapping
    mapping_lr_mul: float = 0.01  # learning-rate multiplier of the mapping, a factor of its weights
    mapping_width: int | None = None  # entries between the layers of the mapping; None: w_dim
    conv_clamp: float | None = None  # bound of what each layer puts out (StyleGAN2-ADA); None: none
    # Figure 7 of arXiv 1912.04958: colours of every resolution summed, residual blocks, or neither.
    architecture: Architecture = "skip"
    c_dim: int = 0  # entries of a label of a conditional generator; 0: it takes none
    class_names: tuple[str, ...] = ()  # what these entries stand for; empty: nobody said

    def __post_init__(self) -> None:
        channels = claims.require_sizes("channels", self.channels, claims.MAX_WIDTH)
        object.__setattr__(self, "channels", channels)
        size = self.resolution
        if not (isinstance(size, int) and 8 <= size <= MAX_RESOLUTION and size & (size - 1) == 0):
            raise ValueError(
                f"resolution must be a power of two from 8 to {MAX_RESOLUTION}, not {claims.shown(size)}"
            )
        require_mapping(self)
        names = claims.require_class_names(self.class_names, self.c_dim)
        object.__setattr__(self, "class_names", names)
        if self.conv_clamp is not None:
            claims.require_positive("conv_clamp", self.conv_clamp)
        if len(self.channels) != self.n_blocks:
            raise ValueError(
                f"{len(self.channels)} channel counts for {self.n_blocks} resolutions "
                f"(4 to {self.resolution})"
            )
        if self.architecture not in get_args(Architecture):
            raise ValueError(
                f"architecture must be one of {', '.join(get_args(Architecture))}, "
                f"not {claims.shown(self.architecture)}"
            )

    @property
    def n_blocks(self) -> int:
        """Resolutions from 4 up."""
        return int(math.log2(self.resolution)) - 1

    @property
    def n_styles(self) -> int:
        """Style vectors that the synthesis takes: one a convolution and one for the last colours."""
        return 2 * self.n_blocks

    @property
    def rgb_levels(self) -> tuple[int, ...]:
        """Blocks, counted from 4 px, whose feature maps become colours."""
        last = self.n_blocks - 1
        return tuple(range(last + 1)) if self.architecture == "skip" else (last,)

    @classmethod
    def standard(
        cls, resolution: int, channel_multiplier: int = 2, **others: Any
    ) -> GeneratorConfig:
        """The published widths: 512 up to 32 px, then halved with each doubling (config F: multiplier 2)."""
        sizes = [4 * 2**i for i in range(int(math.log2(resolution)) - 1)]
        channels = [min(512, 16384 * channel_multiplier // size) for size in sizes]
        return cls(resolution=resolution, channels=tuple(channels), **others)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for a checkpoint's header."""
        # Headers from before there were labels stay what they are.
        unused = {name for name in ("c_dim", "class_names") if not getattr(self, name)}
        return {name: value for name, value in asdict(self).items() if name not in unused}


class Synthesis(nn.Module):
    """Style vectors to images, with skip connections between the colours of each resolution."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.n_styles, self.w_dim = config.n_styles, config.w_dim
        # Dtype of the feature maps. Weights, styles and the image stay float32, so that half precision
        # costs accuracy only where it buys speed.
        self.compute_dtype = torch.float32
        # True computes the paper's formulation: the measure of the fast one, not for use.
        self.reference = False
        self._derived: Derived[SynthesisWeights] = Derived()
        first, w_dim, clamp = config.channels[0], config.w_dim, config.conv_clamp
        residual = config.architecture == "resnet"
        gain = RESIDUAL_GAIN if residual else 1.0
        self.const = nn.Parameter(normal(1, first, 4, 4))
        convs = [StyledConv(first, first, w_dim, 4, up=False, clamp=clamp)]
        for level, (n_in, n_out) in enumerate(pairwise(config.channels), start=1):
            size = 4 * 2**level
            convs.append(StyledConv(n_in, n_out, w_dim, size, up=True, clamp=clamp))
            convs.append(StyledConv(n_out, n_out, w_dim, size, up=False, gain=gain, clamp=clamp))
        self.convs = nn.ModuleList(convs)
        self.rgb_levels = config.rgb_levels
        self.to_rgbs = nn.ModuleList(
            ToRGB(config.channels[level], w_dim, clamp) for level in config.rgb_levels
        )
        between = pairwise(config.channels) if residual else ()
        self.skips = nn.ModuleList(Residual(n_in, n_out) for n_in, n_out in between)

    def forward(
        self, w_plus: Tensor, noise: Noise = "const", transform: Tensor | None = None
    ) -> Tensor:
        """w_plus [N, n_styles, w_dim] -> images [N, 3, H, W] float32, nominally in [-1, 1].

        Args:
            noise: "const" adds the stored buffers, "random" fresh ones, "none" nothing.
            transform: StyleGAN3's; there must be none here.

        Raises:
            ValueError: another shape of ``w_plus``, another word for ``noise``, or a transform.
        """
        require_w_plus(w_plus, self.n_styles, self.w_dim)
        require_noise(noise)
        if transform is not None:
            raise ValueError("only StyleGAN3 can move what it draws; leave out the transform")
        return self.draw(w_plus.float(), noise, self.weights(self.compute_dtype))

    def weights(self, dtype: torch.dtype, for_compiler: bool = False) -> SynthesisWeights:
        """What :meth:`draw` multiplies with: kept while the weights are frozen, made anew in training.

        Args:
            dtype: of the feature maps.
            for_compiler: for what a compiler can fuse, also where something else is faster without one.
        """
        formulation: Formulation = "reference"
        if not self.reference:
            formulation = "fused" if for_compiler or self.const.is_cuda else "in_place"
        tensors = [*self.parameters(), *self.buffers()]
        key = (formulation, for_compiler, dtype)
        return self._derived.get(
            tensors, key, lambda: SynthesisWeights(self, formulation, for_compiler, dtype)
        )

    def upsampling(self, size: int, formulation: Formulation, for_compiler: bool) -> Upsampling:
        """How maps are doubled to ``size`` pixels."""
        # Measured on an H200 in bfloat16: a compiler makes one pass of the filter and what follows it, which
        # below 256 px beats four times the arithmetic. On a CPU arithmetic is dear.
        if formulation != "fused" or not self.const.is_cuda:
            return "transposed"
        return "transposed" if for_compiler and size < POLYPHASE_SIZE else "polyphase"

    def draw(self, w_plus: Tensor, noise: Noise, weights: SynthesisWeights) -> Tensor:
        """:meth:`forward` with weights at hand: plain tensor code, to be compiled or captured."""
        is_reference = weights.formulation == "reference"
        styles = weights.styles(w_plus)
        x = self.const.to(weights.dtype).expand(len(w_plus), -1, -1, -1)
        if not is_reference:
            x = x.contiguous(memory_format=torch.channels_last)
        image = None
        for level in range(len(self.convs) // 2 + 1):
            x = self._block(level, x, styles, noise, weights)
            if image is not None:
                image = ops.upsample2d(image, reference=is_reference)
            if level in self.rgb_levels:
                i = self.rgb_levels.index(level)
                style = styles[len(self.convs) + i]
                colours = self.to_rgbs[i](x, style, weights.rgbs[i], weights.formulation)
                image = colours if image is None else image + colours
        assert image is not None, "the last level has colours"
        return image

    def _block(
        self,
        level: int,
        x: Tensor,
        styles: Sequence[Tensor],
        noise: Noise,
        weights: SynthesisWeights,
    ) -> Tensor:
        """The convolutions of one resolution."""
        is_reference = weights.formulation == "reference"
        around = self.skips[level - 1](x, is_reference) if level and self.skips else None
        for i in (0,) if level == 0 else (2 * level - 1, 2 * level):
            x = self.convs[i](x, styles[i], noise, weights.convs[i], weights.formulation)
        return x if around is None else x + around


class SynthesisWeights:
    """What follows from a synthesis's weights alone, for a formulation of its layers."""

    def __init__(
        self,
        synthesis: Synthesis,
        formulation: Formulation,
        for_compiler: bool,
        dtype: torch.dtype,  # of the feature maps
    ) -> None:
        self.formulation, self.dtype = formulation, dtype
        convs: list[StyledConv] = list(synthesis.convs)  # type: ignore[arg-type]
        rgbs: list[ToRGB] = list(synthesis.to_rgbs)  # type: ignore[arg-type]
        sizes = [conv.noise.shape[-1] for conv in convs]
        ups = [synthesis.upsampling(size, formulation, for_compiler) for size in sizes]
        self.convs = [conv.weights(up, dtype) for conv, up in zip(convs, ups, strict=True)]
        self.rgbs = [rgb.weights() for rgb in rgbs]
        # A convolution takes the style vector of its own number, colours take that after their block's last.
        sources = [*range(len(convs)), *(2 * level + 1 for level in synthesis.rgb_levels)]
        self.styles = Styles([*(c.affine for c in convs), *(rgb.affine for rgb in rgbs)], sources)


class Generator(StyleBasedGenerator):
    """StyleGAN2: ``mapping(z)`` and ``synthesis(w_plus)``."""

    config: GeneratorConfig
    synthesis: Synthesis

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.config.class_names

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.mapping = Mapping(config)
        self.synthesis = Synthesis(config)
