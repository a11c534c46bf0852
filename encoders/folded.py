"""A trained encoder for inference: the same function with fewer passes over its maps.

Batch norms are part of the convolutions beside them, and heads that read one map are computed as
one. The trained module stays as it is: what training and the checkpoints' hashes see.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from encoders.folded_backbone import fold_backbone
from encoders.joined_heads import fold_heads
from encoders.style_encoder import StyleEncoder


class FoldedEncoder(nn.Module):
    """[N, in_channels, h, w] in its precision -> style deltas [N, n_styles, 512], without gradients."""

    def __init__(self, backbone: nn.Module, heads: nn.Module) -> None:
        super().__init__()
        self.backbone, self.heads = backbone, heads

    def forward(self, x: Tensor) -> Tensor:
        return self.heads(self.backbone(x))


def fold(encoder: StyleEncoder, dtype: torch.dtype) -> FoldedEncoder:
    """A copy for inference in `dtype`, on the encoder's device, with the statistics of its batch norms.

    It does not follow the encoder: fold again when its weights, its device or the stage of its heads
    has changed. Fold weights that are float32 still, for the folded ones are rounded as well. To be
    compiled or captured, it must have run once on images of that size.
    """
    with torch.inference_mode(False), torch.no_grad():
        backbone = fold_backbone(encoder.backbone, dtype)
        return FoldedEncoder(backbone, fold_heads(encoder.heads, dtype)).eval()
