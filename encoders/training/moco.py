"""Likeness outside faces: features of MoCo v2 (He et al. 2020, arXiv 1911.05722; 2003.04297), a ResNet-50.

As ReStyle and e4e use it in the place of a face embedding: the picture at 224x224 by its nearest pixels,
without ImageNet's mean and deviation, the pooled features as a unit vector, and the cosine of two.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from generators.files import checkpoint
from generators.files.checkpoint import CheckpointError

MOCO_FILES = (
    "moco_v2_800ep_pretrain.pth.tar (MoCo v2 after 800 epochs, linked from the README of "
    "facebookresearch/moco)"
)
_STAGES = ((3, 64), (4, 128), (6, 256), (3, 512))  # (blocks, inner channels) of ResNet-50
_EXPANSION = 4
_SIDE = 224
_PREFIX = "encoder_q."  # of names without the `module.` of DataParallel, which loading takes off


class _Bottleneck(nn.Module):
    """The block of ResNet-50 (He et al. 2015, arXiv 1512.03385, figure 5 right), stride in its 3x3 layer."""

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        channels = width * _EXPANSION
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.downsample: nn.Module | None = None
        if in_channels != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.relu(self.bn3(self.conv3(x)) + shortcut)


class MoCo(nn.Module):
    """ResNet-50 without its classifier, with torchvision's names (`conv1`, `bn1`, `layer1` to `layer4`)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        before = 64
        for number, (n_blocks, width) in enumerate(_STAGES, start=1):
            blocks = []
            for i in range(n_blocks):
                stride = 2 if i == 0 and number > 1 else 1
                blocks.append(_Bottleneck(before, width, stride))
                before = width * _EXPANSION
            self.add_module(f"layer{number}", nn.Sequential(*blocks))

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, h, w] -> pooled features [N, 2048]."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for number in range(1, len(_STAGES) + 1):
            x = self.get_submodule(f"layer{number}")(x)
        return x.mean(dim=(2, 3))

    def embed(self, images: Tensor) -> Tensor:
        """[N, 3, h, w] in [-1, 1] -> unit vectors [N, 2048] float32."""
        with torch.autocast(images.device.type, enabled=False):
            return F.normalize(self(F.interpolate(images.float(), (_SIDE, _SIDE))))


def similarity(network: MoCo, a: Tensor, b: Tensor) -> Tensor:
    """Cosine of the features of [N, 3, h, w] and [N, 3, h, w]: 1 for the same picture. [N]."""
    return (network.embed(a) * network.embed(b)).sum(dim=1)


def load_moco(path: str | os.PathLike) -> MoCo:
    """A frozen MoCo from its published training checkpoint; its key encoder, queue and head are left out.

    Raises:
        CheckpointError: another kind of file, or one whose tensors do not fit; they are named.
    """
    state = checkpoint.load_pt(path).get("state_dict")
    queries = {}
    if isinstance(state, Mapping):
        named = {str(key): value for key, value in state.items() if isinstance(value, Tensor)}
        queries = {
            key.removeprefix(_PREFIX): value
            for key, value in named.items()
            if key.startswith(_PREFIX) and not key.startswith(_PREFIX + "fc.")
        }
    if not queries:
        raise CheckpointError(f"{path} is not a MoCo checkpoint; pass {MOCO_FILES}")
    return checkpoint.restore(MoCo, queries, str(path))
