"""Backbones of the published encoders: from images to feature maps at four scales.

Parameters have the published names. `heads.py` reads styles off the maps; `identity.py` puts a face
embedding on top.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# (blocks, channels) of the four stages; the first block of a stage halves the picture.
IR50_STAGES = ((3, 64), (4, 128), (14, 256), (3, 512))
IR101_STAGES = ((3, 64), (13, 128), (30, 256), (3, 512))
RESNET34_STAGES = ((3, 64), (4, 128), (6, 256), (3, 512))
_SE_REDUCTION = 16


class SqueezeExcitation(nn.Module):
    """Channel attention (Hu et al. 2018, arXiv 1709.01507): [N, c, h, w] -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // _SE_REDUCTION, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // _SE_REDUCTION, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.fc2(F.relu(self.fc1(pooled))))


class ImprovedResidual(nn.Module):
    """The "improved residual" block of ArcFace (arXiv 1801.07698, section 3.2.2).

    [N, in_channels, h, w] -> [N, channels, h / stride, w / stride].
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int,  # 2 halves the picture
        attention: bool,  # ends in squeeze and excitation: IR-SE instead of IR
    ) -> None:
        super().__init__()
        self.shortcut_layer: nn.Module
        if in_channels == channels:
            self.shortcut_layer = nn.MaxPool2d(1, stride)
        else:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )
        layers = [
            nn.BatchNorm2d(in_channels),
            nn.Conv2d(in_channels, channels, 3, 1, 1, bias=False),
            nn.PReLU(channels),
            nn.Conv2d(channels, channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels),
        ]
        self.res_layer = nn.Sequential(*layers, *([SqueezeExcitation(channels)] * attention))

    def forward(self, x: Tensor) -> Tensor:
        return self.res_layer(x) + self.shortcut_layer(x)


def _stage_ends(stages: tuple[tuple[int, int], ...]) -> list[int]:
    """Numbers of each stage's last block."""
    ends, n = [], 0
    for n_blocks, _ in stages:
        n += n_blocks
        ends.append(n - 1)
    return ends


def maps_of(body: nn.Sequential, ends: list[int], x: Tensor) -> list[Tensor]:
    """Run a body; what comes out of each stage."""
    maps = []
    for i, block in enumerate(body):
        x = block(x)
        if i in ends:
            maps.append(x)
    return maps


class IRBackbone(nn.Module):
    """An ArcFace network without its face embedding (`input_layer.*`, `body.*`).

    The defaults make it IR-SE50, the backbone of pSp, e4e and ReStyle for faces.
    """

    def __init__(
        self,
        in_channels: int = 6,  # 6 = image beside current reconstruction (ReStyle), 3 = image
        stages: tuple[tuple[int, int], ...] = IR50_STAGES,  # (blocks, channels) of each
        attention: bool = True,  # IR-SE instead of IR
    ) -> None:
        super().__init__()
        self.input_layer = nn.Sequential(
            nn.Conv2d(in_channels, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64)
        )
        blocks: list[nn.Module] = []
        before = 64
        for n_blocks, channels in stages:
            for i in range(n_blocks):
                stride = 2 if i == 0 else 1
                blocks.append(ImprovedResidual(before, channels, stride, attention))
                before = channels
        self.body = nn.Sequential(*blocks)
        self.stage_ends = _stage_ends(stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        """[N, in_channels, h, w] -> the maps after each stage, finest first.

        Channels 64, 128, 256, 512 at 1/2, 1/4, 1/8 and 1/16 of the input's height and width.
        """
        x = self.input_layer(x.contiguous(memory_format=torch.channels_last))
        return maps_of(self.body, self.stage_ends, x)


class BasicBlock(nn.Module):
    """The block of ResNet-18 and -34 (He et al. 2015, arXiv 1512.03385, figure 5 left).

    [N, in_channels, h, w] -> [N, channels, h / stride, w / stride].
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample: nn.Module | None = None
        if stride > 1 or in_channels != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + shortcut)


class ResNet34(nn.Module):
    """ReStyle's backbone for cars, churches and animals (`conv1`, `bn1`, `relu`, `body.*`).

    ResNet-34 without its max-pooling, and a PReLU after the first layer; the blocks of its four
    stages are numbered through.
    """

    def __init__(
        self,
        in_channels: int = 6,  # 6 = image beside current reconstruction (ReStyle), 3 = image
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.PReLU(64)
        blocks: list[nn.Module] = []
        before = 64
        for n_blocks, channels in RESNET34_STAGES:
            for _ in range(n_blocks):
                blocks.append(BasicBlock(before, channels, stride=1 if channels == before else 2))
                before = channels
        self.body = nn.Sequential(*blocks)
        self.stage_ends = _stage_ends(RESNET34_STAGES)

    def forward(self, x: Tensor) -> list[Tensor]:
        """[N, in_channels, h, w] -> the maps after each stage, finest first.

        Channels 64, 128, 256, 512 at 1/2, 1/4, 1/8 and 1/16 of the input's height and width.
        """
        x = self.conv1(x.contiguous(memory_format=torch.channels_last))
        return maps_of(self.body, self.stage_ends, self.relu(self.bn1(x)))
