"""Layers of StyleGAN3 (arXiv 2106.12423) that its synthesis is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generators import lowpass, ops
from generators.derived import Derived
from generators.filtered_activation import FilteredActivation, Resampling
from generators.layers import EqualLinear, normal
from generators.styled_conv import Formulation
from generators.stylegan3_config import Band, LayerShape


class FourierInput(nn.Module):
    """Fourier features that a style turns and shifts: the continuous map that the synthesis starts from."""

    def __init__(
        self,
        channels: int,  # feature maps
        w_dim: int,  # entries of the style vector
        band: Band,  # what they hold and how they are sampled
    ) -> None:
        super().__init__()
        self.band = band
        self.weight = nn.Parameter(normal(channels, channels))
        self.affine = EqualLinear(w_dim, 4)
        with torch.no_grad():  # every picture starts upright and in the middle
            self.affine.weight.zero_()
            self.affine.bias.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0]))
        self.transform: Tensor
        self.freqs: Tensor
        self.phases: Tensor
        # What NVIDIA's files call so: applied where a call gives no other.
        self.register_buffer("transform", torch.eye(3))
        self.register_buffer("freqs", _in_disc(channels, band.cutoff))
        self.register_buffer("phases", _uniform(channels) - 0.5)

    def forward(self, w: Tensor, transform: Tensor | None = None) -> Tensor:
        """Style vectors [N, w_dim] -> [N, channels, size, size], channels_last.

        Args:
            transform: [3, 3] or [N, 3, 3], from where a pixel is to where it was; None: the stored one.
        """
        freqs, phases, amplitudes = self._moved(self.affine(w), transform)
        size, rate = self.band.size, self.band.rate
        at = (torch.arange(size, device=w.device, dtype=w.dtype) + (0.5 - size / 2)) / rate
        y, x = torch.meshgrid(at, at, indexing="ij")
        grid = torch.stack([x, y], dim=-1).reshape(-1, 2)  # [size * size, 2]
        waves = torch.sin(2 * math.pi * (grid @ freqs.transpose(1, 2) + phases[:, None]))
        mixed = (waves * amplitudes[:, None]) @ (self.weight.t() / math.sqrt(len(self.weight)))
        return mixed.unflatten(1, (size, size)).permute(0, 3, 1, 2)

    def _moved(self, motion: Tensor, transform: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Frequencies [N, C, 2], phases and amplitudes [N, C] of waves that a style and a user moved."""
        motion = motion / motion[:, :2].norm(dim=1, keepdim=True)
        c, s, dx, dy = motion.unbind(1)
        zero, one = torch.zeros_like(c), torch.ones_like(c)
        turn = torch.stack([c, -s, zero, s, c, zero, zero, zero, one], dim=1).view(-1, 3, 3)
        shift = torch.stack([one, zero, -dx, zero, one, -dy, zero, zero, one], dim=1).view(-1, 3, 3)
        given = self.transform if transform is None else transform.to(self.transform)
        matrix = turn @ shift @ given
        phases = self.phases + (self.freqs @ matrix[:, :2, 2:])[..., 0]
        freqs = self.freqs @ matrix[:, :2, :2]
        # Waves that a smaller picture takes beyond the band fade out, at half the sampling rate to nothing.
        cutoff, rate = self.band.cutoff, self.band.rate
        beyond = (freqs.norm(dim=2) - cutoff) / (rate / 2 - cutoff)
        return freqs, phases, (1 - beyond).clamp(0, 1)


def _uniform(n: int) -> Tensor:
    """Numbers from 0 to 1, [n]; left unset on the device "meta" (see `layers.normal`)."""
    values = torch.empty(n)
    return values if values.is_meta else values.uniform_()


def _in_disc(n: int, radius: float) -> Tensor:
    """Points [n, 2] that are spread evenly over a disc."""
    r, angle = radius * _uniform(n).sqrt(), 2 * math.pi * _uniform(n)
    return torch.stack([r * angle.cos(), r * angle.sin()], dim=1)


@dataclass(frozen=True, eq=False)
class LayerWeights:
    """What a layer multiplies with: follows from its tensors alone."""

    weight: Tensor  # [O, I, k, k] float32, as it is modulated
    kernel: Tensor  # the same in the dtype of the feature maps, divided by `spread`
    spread: float  # root of the products that an output sums: so much larger the sum may be than its parts
    energy: (
        Tensor | None
    )  # [I, O] float32, the squares of `weight` summed over its taps; None: colours
    scale: Tensor  # float32, what keeps the expected magnitude at 1
    bias: Tensor  # [O] float32
    activation: FilteredActivation | None  # None: colours
    formulation: Formulation


class SynthesisLayer(nn.Module):
    """Modulated convolution and filtered activation; the last one makes colours, without either filter."""

    def __init__(self, shape: LayerShape, w_dim: int, clamp: float | None) -> None:
        super().__init__()
        self.shape, self.clamp = shape, clamp
        self.affine = EqualLinear(w_dim, shape.n_in, bias=1.0)
        self.weight = nn.Parameter(normal(shape.n_out, shape.n_in, shape.kernel, shape.kernel))
        self.bias = nn.Parameter(torch.zeros(shape.n_out))
        self.magnitude_ema: Tensor
        self.up_filter: Tensor | None
        self.down_filter: Tensor | None
        self._derived: Derived[FilteredActivation] = Derived()
        # Mean square of what comes in, as training measured it.
        self.register_buffer("magnitude_ema", torch.ones([]))
        self.register_buffer("up_filter", _up_filter(shape))
        self.register_buffer("down_filter", _down_filter(shape))

    def weights(self, formulation: Formulation, dtype: torch.dtype) -> LayerWeights:
        """Its weights for feature maps of a dtype."""
        weight: Tensor = self.weight
        energy, activation, spread = None, None, 1.0
        if self.shape.is_colours:
            weight = weight / math.sqrt(weight[0].numel())
        else:
            weight = weight * weight.square().mean(dim=(1, 2, 3), keepdim=True).rsqrt()
            energy = weight.square().sum(dim=(2, 3)).t()
            activation = self._activation(formulation, dtype)
            spread = math.sqrt(weight[0].numel())
        kernel = (weight / spread).to(dtype).contiguous(memory_format=torch.channels_last)
        scale = self.magnitude_ema.rsqrt()
        return LayerWeights(
            weight, kernel, spread, energy, scale, self.bias, activation, formulation
        )

    def _activation(self, formulation: Formulation, dtype: torch.dtype) -> FilteredActivation:
        shape = self.shape
        assert self.up_filter is not None, "every layer but the colours' has both filters"
        assert self.down_filter is not None, "every layer but the colours' has both filters"
        filters = self.up_filter, self.down_filter
        resampling = Resampling(shape.up, shape.down, shape.padding, *filters)
        size = shape.source.size + shape.kernel - 1
        # Kept while the weights are trained: the filters are not.
        return self._derived.get(
            filters,
            (formulation, dtype),
            lambda: FilteredActivation(resampling, size, self.clamp, formulation, dtype),
        )

    def forward(self, x: Tensor, style: Tensor, weights: LayerWeights) -> Tensor:
        """[N, I, h, w] and styles [N, I], as its affine layer gives them -> [N, O, h', w']."""
        convolve = {"reference": _grouped, "in_place": _one_by_one, "fused": _together}
        x = convolve[weights.formulation](x, style, weights)
        return ops.bound(x, self.clamp) if weights.activation is None else weights.activation(x)


def _up_filter(shape: LayerShape) -> Tensor | None:
    if shape.up_taps == 1:
        return None
    if torch.empty(0).is_meta:
        return torch.empty(shape.up_taps)
    source = shape.source
    return lowpass.sinc(shape.up_taps, source.cutoff, source.half_width, shape.rate)


def _down_filter(shape: LayerShape) -> Tensor | None:
    taps, target = shape.down_taps, shape.target
    if taps == 1:
        return None
    if torch.empty(0).is_meta:
        return torch.empty((taps, taps) if shape.is_radial else (taps,))
    design = lowpass.jinc if shape.is_radial else lowpass.sinc
    return design(taps, target.cutoff, target.half_width, shape.rate)


def _together(x: Tensor, style: Tensor, weights: LayerWeights) -> Tensor:
    """One weight for the whole batch, styles on the maps before and behind it: for a GPU.

    Demodulation cancels any factor of a style: its largest entry is set to 1, so that half precision holds
    all products. (The published code divides by a mean over the batch, for the same end.)
    """
    factor = weights.spread * weights.scale.reshape(1, 1)
    if weights.energy is not None:
        style = style / style.abs().amax(dim=1, keepdim=True).clamp_min(1e-12)
        norm = style.square() @ weights.energy
        factor = factor * torch.rsqrt(norm + ops.DEMODULATION_EPS)
    dtype, pad = x.dtype, weights.kernel.shape[-1] - 1
    out = F.conv2d(x * style.to(dtype)[:, :, None, None], weights.kernel, padding=pad)
    bias = weights.bias.to(dtype)[:, None, None]
    return torch.addcmul(bias, out, factor.to(dtype)[:, :, None, None])


def _one_by_one(x: Tensor, style: Tensor, weights: LayerWeights) -> Tensor:
    """Each sample by itself with its own weights: for a CPU, where scaling maps is dear."""
    own = _own_weights(style, weights)
    bias, pad = weights.bias.to(x.dtype), own.shape[-1] - 1
    maps = [
        F.conv2d(
            one, w.to(x.dtype).contiguous(memory_format=torch.channels_last), bias, padding=pad
        )
        for one, w in zip(x.split(1), own.unbind(), strict=True)
    ]
    return torch.cat(maps) if len(maps) != 1 else maps[0]


def _grouped(x: Tensor, style: Tensor, weights: LayerWeights) -> Tensor:
    """The definition: weights scaled for each sample, one grouped convolution."""
    n, i, h, w = x.shape
    own = _own_weights(style, weights).to(x.dtype)
    o, k = own.shape[1], own.shape[-1]
    grouped = own.reshape(n * o, i, k, k)
    out = F.conv2d(x.reshape(1, n * i, h, w), grouped, padding=k - 1, groups=n)
    return out.reshape(n, o, *out.shape[-2:]) + weights.bias.to(x.dtype)[:, None, None]


def _own_weights(style: Tensor, weights: LayerWeights) -> Tensor:
    """Weights of each sample, [N, O, I, k, k] float32."""
    own = ops.modulate_weight(weights.weight, style, demodulate=weights.energy is not None)
    return own * weights.scale
