"""The shape of a StyleGAN3, and what follows from it: rates, cutoffs and sizes of every layer.

Section 3.2 and appendix C of arXiv 2106.12423: cutoffs and stopbands grow geometrically from the first layer
to the last but two, which are critically sampled; rates follow from the stopbands.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

from generators import claims
from generators.lowpass import TAPS_PER_FACTOR
from generators.style_based import require_mapping

Variant = Literal["T", "R"]
N_LAYERS = 14  # with filters; one more makes colours
N_CRITICAL = 2  # of these at the end, critically sampled: sharper pictures
FIRST_CUTOFF = 2.0  # periods per width of the picture
FIRST_STOPBAND = 2**2.1
LAST_STOPBAND = 2**0.3  # of half the resolution
MARGIN = 10  # pixels around the picture on every side, until the last two layers cut them away
MIN_RESOLUTION, MAX_RESOLUTION = 16, 1 << 12
# Entries of a feature map: 4 GB. No tensor of a file is as large as what it draws: a small one could ask for
# anything.
MAX_MAP = 1 << 30


@dataclass(frozen=True)
class Band:
    """What a feature map holds, and how it is sampled."""

    cutoff: float  # periods per width of the picture
    stopband: float  # above it there is (almost) nothing
    rate: int  # samples per width of the picture
    size: int  # height and width with the margin

    @property
    def half_width(self) -> float:
        """Half of the transition that a filter needs for it."""
        return max(self.stopband, self.rate / 2) - self.cutoff


@dataclass(frozen=True)
class LayerShape:
    """One layer of the synthesis: from a band to a band."""

    n_in: int  # input channels
    n_out: int  # output channels
    source: Band
    target: Band
    kernel: int  # height and width of its convolution
    is_colours: bool  # the last layer: no filter, no activation
    is_radial: bool  # its down filter is radial

    @property
    def rate(self) -> int:
        """At which the activation is computed."""
        highest = max(self.source.rate, self.target.rate)
        return highest if self.is_colours else 2 * highest

    @property
    def up(self) -> int:
        return self.rate // self.source.rate

    @property
    def down(self) -> int:
        return self.rate // self.target.rate

    @property
    def up_taps(self) -> int:
        """Taps of the filter before the activation; 1: there is none."""
        return 1 if self.up == 1 or self.is_colours else TAPS_PER_FACTOR * self.up

    @property
    def down_taps(self) -> int:
        """The same for the one behind the activation."""
        return 1 if self.down == 1 or self.is_colours else TAPS_PER_FACTOR * self.down

    @property
    def padding(self) -> tuple[int, int]:
        """Zeros before and behind each axis of the zero-stuffed map; negative: samples cut away."""
        wanted = (self.target.size - 1) * self.down + 1 + self.up_taps + self.down_taps - 2
        total = wanted - (self.source.size + self.kernel - 1) * self.up
        before = (total + self.up) // 2
        return before, total - before


@dataclass(frozen=True)
class StyleGAN3Config:
    """The shape of a StyleGAN3 generator; everything that its tensors do not say."""

    resolution: int  # height and width of the image, a power of two
    channels: tuple[int, ...]  # feature maps behind each of the 14 layers that have filters
    kernel: int = 3  # of the convolutions: 3 in configuration T, 1 in R
    radial: bool = False  # radial down filters: configuration R
    z_dim: int = 512  # entries of the normal vector that the mapping takes
    w_dim: int = 512  # entries of one style vector
    c_dim: int = 0  # entries of a label of a conditional generator; 0: it takes none
    n_mapping_layers: int = 2  # fully connected layers of the mapping
    mapping_lr_mul: float = 0.01  # learning-rate multiplier of the mapping, a factor of its weights
    mapping_width: int | None = None  # entries between the layers of the mapping; None: w_dim
    conv_clamp: float | None = 256.0  # bound of the activations; None: none
    output_scale: float = 0.25  # factor of the colours

    def __post_init__(self) -> None:
        size = self.resolution
        is_size = isinstance(size, int) and not isinstance(size, bool)
        if not (is_size and MIN_RESOLUTION <= size <= MAX_RESOLUTION and size & (size - 1) == 0):
            raise ValueError(
                f"resolution must be a power of two from {MIN_RESOLUTION} to {MAX_RESOLUTION}, not "
                f"{claims.shown(size)}"
            )
        channels = claims.require_sizes("channels", self.channels, claims.MAX_WIDTH)
        object.__setattr__(self, "channels", channels)
        if len(channels) != N_LAYERS:
            raise ValueError(f"{len(channels)} channel counts for {N_LAYERS} layers")
        if self.kernel not in (1, 3) or isinstance(self.kernel, bool):
            raise ValueError(f"kernel must be 1 or 3, not {claims.shown(self.kernel)}")
        if not isinstance(self.radial, bool):
            raise ValueError(f"radial must be true or false, not {claims.shown(self.radial)}")
        require_mapping(self)
        if self.conv_clamp is not None:
            claims.require_positive("conv_clamp", self.conv_clamp)
        claims.require_positive("output_scale", self.output_scale)
        largest = max(layer.n_out * layer.target.size**2 for layer in self.layers)
        if largest > MAX_MAP:
            raise ValueError(f"a feature map of {largest:,} numbers, more than {MAX_MAP:,}")

    @classmethod
    def standard(
        cls,
        resolution: int,
        variant: Variant = "T",
        channel_base: int | None = None,
        channel_max: int | None = None,
        **others: Any,
    ) -> StyleGAN3Config:
        """The published widths.

        Args:
            channel_base: feature maps times twice the cutoff; None: 32768 for T, 65536 for R.
            channel_max: most feature maps; None: 512 for T, 1024 for R.
        """
        factor = 2 if variant == "R" else 1
        base, most = channel_base or 32768 * factor, channel_max or 512 * factor
        # (Python rounds halves to even, as the published code does.)
        channels = tuple(
            round(min(base / 2 / band.cutoff, most)) for band in bands(resolution)[:-1]
        )
        kind = {"kernel": 1, "radial": True} if variant == "R" else {"kernel": 3, "radial": False}
        return cls(resolution, channels, **(kind | others))

    @property
    def n_styles(self) -> int:
        """Style vectors that the synthesis takes: one for the input and one a layer."""
        return N_LAYERS + 2

    @property
    def variant(self) -> str:
        """The configuration's name in the paper, or what it has of it."""
        named = {(3, False): "T", (1, True): "R"}
        radial = "radial" if self.radial else "separable"
        return named.get((self.kernel, self.radial), f"{self.kernel}x{self.kernel}, {radial}")

    @property
    def first_band(self) -> Band:
        """What the Fourier features hold."""
        return bands(self.resolution)[0]

    @cached_property
    def layers(self) -> tuple[LayerShape, ...]:
        """Every layer of the synthesis, the one that makes colours last."""
        every = bands(self.resolution)
        widths = (self.channels[0], *self.channels, 3)
        shapes = []
        for i, target in enumerate(every):
            is_colours = i == N_LAYERS
            shapes.append(
                LayerShape(
                    n_in=widths[i],
                    n_out=widths[i + 1],
                    source=every[max(i - 1, 0)],
                    target=target,
                    kernel=1 if is_colours else self.kernel,
                    is_colours=is_colours,
                    is_radial=self.radial and i < N_LAYERS - N_CRITICAL,
                )
            )
        return tuple(shapes)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for a checkpoint's header."""
        return {"network": NETWORK, **asdict(self)}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> StyleGAN3Config:
        """What `to_dict` gave.

        Raises:
            TypeError, ValueError: it describes nothing that can be.
        """
        return cls(**{name: value for name, value in plain.items() if name != "network"})


NETWORK = "stylegan3"  # how a header says that it describes one


def bands(resolution: int) -> tuple[Band, ...]:
    """The maps behind each layer of the synthesis; the input's are those of the first."""
    last = resolution / 2
    found = []
    for i in range(N_LAYERS + 1):
        way = min(i / (N_LAYERS - N_CRITICAL), 1.0)
        cutoff = FIRST_CUTOFF * (last / FIRST_CUTOFF) ** way
        stopband = FIRST_STOPBAND * (last * LAST_STOPBAND / FIRST_STOPBAND) ** way
        rate = 2 ** math.ceil(math.log2(min(2 * stopband, resolution)))
        size = resolution if i >= N_LAYERS - 1 else rate + 2 * MARGIN
        found.append(Band(cutoff, stopband, rate, size))
    return tuple(found)
