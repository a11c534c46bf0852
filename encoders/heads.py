"""Style heads: from a backbone's feature maps to style vectors, with the published key names."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from encoders.backbones import IRSE50
from generators.stylegan2 import EqualLinear

_CHANNELS = 512  # of the last feature map, of a head's layers and of a published w


class GradualStyleBlock(nn.Module):
    """One style from a feature map, halved until a single pixel is left (pSp, arXiv 2008.00951).

    [N, in_channels, h, w] with max(h, w) <= `size` -> [N, channels].
    """

    def __init__(self, in_channels: int, channels: int, size: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(int(math.log2(size))):
            layers += [nn.Conv2d(in_channels, channels, 3, 2, 1), nn.LeakyReLU(0.01)]
            in_channels = channels
        self.convs = nn.Sequential(*layers)
        self.linear = EqualLinear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.convs(x).flatten(1))


def _planar(x: Tensor) -> Tensor:
    """From the backbone's channels_last: on so few pixels, these convolutions run faster without."""
    return x.contiguous()


class BackboneHeads(nn.Module):
    """ReStyle-pSp (arXiv 2104.02699, section 3.2): every style from the last feature map.

    Unlike in pSp's pyramid, all heads read the same 16x16 map.
    """

    def __init__(self, n_styles: int) -> None:
        super().__init__()
        self.styles = nn.ModuleList(
            GradualStyleBlock(_CHANNELS, _CHANNELS, 16) for _ in range(n_styles)
        )

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Feature maps, finest first -> [N, n_styles, 512]."""
        last = _planar(maps[-1])
        return torch.stack([style(last) for style in self.styles], dim=1)


class ProgressiveHeads(nn.Module):
    """ReStyle-e4e: one w for all styles, and an offset from it for each style but the first.

    After e4e (arXiv 2102.02766, section 3.2), whose training adds one offset at a time.
    """

    def __init__(
        self,
        n_styles: int,
        stage: int | None = None,  # how many offsets are in use; None = all (inference)
    ) -> None:
        super().__init__()
        self.styles = nn.ModuleList(
            GradualStyleBlock(_CHANNELS, _CHANNELS, 16) for _ in range(n_styles)
        )
        self.stage = n_styles - 1 if stage is None else stage

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Feature maps, finest first -> [N, n_styles, 512]."""
        last = _planar(maps[-1])
        first = self.styles[0](last)
        offsets = [style(last) for style in self.styles[1 : self.stage + 1]]
        unused = [torch.zeros_like(first)] * (len(self.styles) - 1 - len(offsets))
        return torch.stack([first, *(first + o for o in offsets + unused)], dim=1)


@dataclass(frozen=True)
class StyleEncoderConfig:
    """Which published encoder, and for which generator."""

    type: str  # class name in the published code, a key of ENCODERS
    n_styles: int  # 2 log2(generator resolution) - 2
    in_channels: int = 6  # 6 = image beside current reconstruction

    @property
    def w_dim(self) -> int:
        return _CHANNELS


# Published class name -> its backbone and its heads.
ENCODERS: dict[str, tuple[type[IRSE50], type[nn.Module]]] = {
    "BackboneEncoder": (IRSE50, BackboneHeads),
    "ProgressiveBackboneEncoder": (IRSE50, ProgressiveHeads),
}


class StyleEncoder(nn.Module):
    """A backbone under style heads: [N, in_channels, h, w] -> style deltas [N, n_styles, 512]."""

    def __init__(self, config: StyleEncoderConfig) -> None:
        """Raises ValueError for a type that is not in ENCODERS."""
        super().__init__()
        if config.type not in ENCODERS:
            raise ValueError(
                f"encoder type {config.type!r} is not among those known: {', '.join(ENCODERS)}"
            )
        backbone, heads = ENCODERS[config.type]
        self.config = config
        self.backbone = backbone(config.in_channels)
        self.heads = heads(config.n_styles)

    @classmethod
    def empty(cls, config: StyleEncoderConfig) -> StyleEncoder:
        """One with memory for its tensors but nothing in it yet, to be loaded into.

        Drawing 200 million initial weights takes longer than reading them from a file.
        """
        with torch.device("meta"):
            encoder = cls(config)
        return encoder.to_empty(device="cpu")

    def forward(self, x: Tensor) -> Tensor:
        return self.heads(self.backbone(x))
