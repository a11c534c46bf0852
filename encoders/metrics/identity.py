"""Whether two pictures show one person: the cosine of their ArcFace embeddings."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.backbones import IR50_STAGES, IRBackbone

EMBEDDING_DIM = 512
_ALIGNED_SIDE = 256  # of an FFHQ-aligned picture before the crop
_FACE = (slice(35, 223), slice(32, 220))  # rows and columns of the face in it, as pSp crops it
_FACE_SIDE = 112  # what the network sees


class FaceEmbedding(IRBackbone):
    """ArcFace on IR-SE50 (arXiv 1801.07698), or CurricularFace on IR-101 (arXiv 2004.00288).

    Parameters have the published names (`input_layer.*`, `body.*`, `output_layer.*`).
    """

    def __init__(
        self,
        stages: tuple[tuple[int, int], ...] = IR50_STAGES,  # (blocks, channels) of each
        attention: bool = True,  # IR-SE instead of IR
        affine: bool = True,  # the last normalisation has a weight and a bias
    ) -> None:
        super().__init__(3, stages, attention)
        channels = stages[-1][1]
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.Dropout(0.4),
            nn.Flatten(),
            nn.Linear(channels * (_FACE_SIDE // 16) ** 2, EMBEDDING_DIM),
            nn.BatchNorm1d(EMBEDDING_DIM, affine=affine),
        )

    def embed(self, images: Tensor) -> Tensor:
        """FFHQ-aligned [N, 3, h, w] in [-1, 1] -> unit vectors [N, 512] float32.

        Other sizes are averaged to 256x256 first.
        """
        images = images.float()
        if images.shape[-2:] != (_ALIGNED_SIDE, _ALIGNED_SIDE):
            images = F.adaptive_avg_pool2d(images, _ALIGNED_SIDE)
        faces = F.adaptive_avg_pool2d(images[:, :, _FACE[0], _FACE[1]], _FACE_SIDE)
        with torch.autocast(images.device.type, enabled=False):
            return F.normalize(self.output_layer(self(faces)[-1]))


def similarity(network: FaceEmbedding, a: Tensor, b: Tensor) -> Tensor:
    """Cosine of the embeddings of [N, 3, h, w] and [N, 3, h, w]: 1 for the same picture. [N]."""
    return (network.embed(a) * network.embed(b)).sum(dim=1)
