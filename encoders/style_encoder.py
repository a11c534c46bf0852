"""The published encoders: a backbone under style heads, by the name of its published class."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from encoders import heads
from encoders.backbones import IRBackbone, ResNet34
from generators import claims

RESTYLE, SINGLE_PASS = 6, 3  # input channels: image beside reconstruction, image


@dataclass(frozen=True)
class StyleEncoderConfig:
    """Which published encoder, and for which generator."""

    type: str  # class name in the published code, a key of ENCODERS
    n_styles: int  # 2 log2(generator resolution) - 2
    in_channels: int = RESTYLE  # 6 = image beside current reconstruction, 3 = image (one step)

    def __post_init__(self) -> None:
        claims.require_int("n_styles", self.n_styles, 1, claims.MAX_STYLES)
        if self.in_channels not in (RESTYLE, SINGLE_PASS):
            raise ValueError(
                f"in_channels must be {SINGLE_PASS} or {RESTYLE}, not {claims.shown(self.in_channels)}"
            )

    @property
    def w_dim(self) -> int:
        return heads.CHANNELS


@dataclass(frozen=True)
class Design:
    """What a published class name stands for."""

    backbone: type[IRBackbone] | type[ResNet34]
    heads: type[nn.Module]  # made with the number of styles
    in_channels: tuple[int, ...] = (RESTYLE,)  # that files of this type have


ENCODERS = {
    # ReStyle (arXiv 2104.02699). The pyramid is pSp's own (arXiv 2008.00951) with 3 channels.
    "BackboneEncoder": Design(IRBackbone, heads.BackboneHeads),
    "ResNetBackboneEncoder": Design(ResNet34, heads.BackboneHeads),
    "ProgressiveBackboneEncoder": Design(IRBackbone, heads.ProgressiveHeads),
    "ResNetProgressiveBackboneEncoder": Design(ResNet34, heads.ProgressiveHeads),
    "GradualStyleEncoder": Design(IRBackbone, heads.Pyramid, (RESTYLE, SINGLE_PASS)),
    "ResNetGradualStyleEncoder": Design(ResNet34, heads.Pyramid),
    # Single pass: pSp and e4e (arXiv 2102.02766).
    "BackboneEncoderUsingLastLayerIntoW": Design(IRBackbone, heads.PooledW, (SINGLE_PASS,)),
    "BackboneEncoderUsingLastLayerIntoWPlus": Design(IRBackbone, heads.DenseWPlus, (SINGLE_PASS,)),
    "Encoder4Editing": Design(IRBackbone, heads.ProgressivePyramid, (SINGLE_PASS,)),
    "SingleStyleCodeEncoder": Design(IRBackbone, heads.PooledW, (SINGLE_PASS,)),
}


class StyleEncoder(nn.Module):
    """A backbone under style heads: [N, in_channels, h, w] -> style deltas [N, n_styles, 512]."""

    def __init__(self, config: StyleEncoderConfig) -> None:
        """Raises ValueError for a type that is not in ENCODERS."""
        super().__init__()
        if not isinstance(config.type, str) or config.type not in ENCODERS:
            raise ValueError(
                f"encoder type {claims.shown(config.type)} is unknown; the known types are "
                f"{', '.join(ENCODERS)}"
            )
        design = ENCODERS[config.type]
        self.config = config
        self.backbone = design.backbone(config.in_channels)
        self.heads = design.heads(config.n_styles)

    def forward(self, x: Tensor) -> Tensor:
        return self.heads(self.backbone(x))
