"""Perceptual distances: how far apart two pictures are in a network's feature maps.

As in `distances.py`, every one takes two batches [N, 3, h, w] in [-1, 1] and returns [N] float32.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.metrics.distances import pair
from generators.discriminator import Discriminator

Backbone = Literal["alex", "vgg"]

# Of the backbones' training pictures, on the range [0, 1].
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# The same, rounded, on the range [-1, 1]: LPIPS's own constants.
_LPIPS_MEAN = (-0.030, -0.088, -0.188)
_LPIPS_STD = (0.458, 0.448, 0.450)
_LPIPS_EPS = 1e-10
# Activations that LPIPS compares, by their number in `features`, and their channels.
_TAPS = {
    "alex": ((1, 64), (4, 192), (7, 384), (9, 256), (11, 256)),
    "vgg": ((3, 64), (8, 128), (15, 256), (22, 512), (29, 512)),
}
_RELU4_3 = 22
_VGG16_WIDTHS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512)


class Features(nn.Module):
    """AlexNet's or VGG16's convolutions, with torchvision's names (`features.N.*`)."""

    def __init__(
        self,
        backbone: Backbone,
        taps: tuple[int, ...],  # layers whose outputs are wanted, in ascending order
    ) -> None:
        super().__init__()
        self.taps = taps
        layers = _alexnet() if backbone == "alex" else _vgg16()
        self.features = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> list[Tensor]:
        """[N, 3, h, w] -> the wanted maps, finest first."""
        x = x.contiguous(memory_format=torch.channels_last)
        maps = []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in self.taps:
                maps.append(x)
            if i == self.taps[-1]:
                break
        return maps


def _alexnet() -> list[nn.Module]:
    """Krizhevsky 2014 (arXiv 1404.5997), to its last convolution."""
    return [
        nn.Conv2d(3, 64, 11, 4, 2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, 1, 2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, 1, 1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, 1, 1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, 1, 1),
        nn.ReLU(),
    ]


def _vgg16() -> list[nn.Module]:
    """Configuration D of Simonyan and Zisserman 2014 (arXiv 1409.1556), to its last convolution."""
    layers: list[nn.Module] = []
    before = 3
    for width in _VGG16_WIDTHS:
        if width:
            layers += [nn.Conv2d(before, width, 3, 1, 1), nn.ReLU()]
            before = width
        else:
            layers.append(nn.MaxPool2d(2))
    return layers


class _Head(nn.Module):
    """One learned weight a channel (`model.1.weight`)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Identity(), nn.Conv2d(channels, 1, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class LPIPS(nn.Module):
    """Learned perceptual distance (Zhang et al. 2018, arXiv 1801.03924, equation 1); 0 = the same."""

    _mean: Tensor
    _std: Tensor

    def __init__(
        self,
        backbone: Backbone = "alex",  # "alex" is the usual metric, "vgg" the usual objective
    ) -> None:
        super().__init__()
        taps = _TAPS[backbone]
        self.backbone = Features(backbone, tuple(layer for layer, _ in taps))
        self.heads = nn.ModuleDict({f"lin{i}": _Head(c) for i, (_, c) in enumerate(taps)})
        _register(self, _LPIPS_MEAN, _LPIPS_STD)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """[N, 3, h, w] in [-1, 1], twice -> [N]."""
        a, b = pair(a, b)
        total = torch.zeros(len(a), device=a.device)
        with torch.autocast(a.device.type, enabled=False):
            maps = self.backbone((torch.cat([a, b]) - self._mean) / self._std)
            for head, x in zip(self.heads.values(), maps, strict=True):
                norm = x.square().sum(dim=1, keepdim=True).sqrt() + _LPIPS_EPS
                of_a, of_b = (x / norm).chunk(2)
                total = total + head((of_a - of_b).square()).mean(dim=(1, 2, 3))
        return total


class VGGDistance(nn.Module):
    """Mean absolute difference of VGG16's relu4_3; 0 = the same."""

    _mean: Tensor
    _std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Features("vgg", (_RELU4_3,))
        _register(self, IMAGENET_MEAN, IMAGENET_STD)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """[N, 3, h, w] in [-1, 1], twice -> [N]."""
        a, b = pair(a, b)
        with torch.autocast(a.device.type, enabled=False):
            [x] = self.backbone(((torch.cat([a, b]) + 1) / 2 - self._mean) / self._std)
        of_a, of_b = x.chunk(2)
        return (of_a - of_b).abs().mean(dim=(1, 2, 3))


class DiscriminatorDistance(nn.Module):
    """Mean absolute difference of a discriminator's feature maps, over all maps alike; 0 = the same.

    As the feature matching of Salimans et al. 2016 (arXiv 1606.03498, section 3.1), for single images.
    """

    def __init__(
        self,
        discriminator: Discriminator,  # frozen
    ) -> None:
        super().__init__()
        self.discriminator = discriminator

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """[N, 3, h, w] in [-1, 1], twice -> [N]; gradients go to the first."""
        a, b = pair(a, b)
        side = self.discriminator.config.resolution
        of_a = self.discriminator.features(resized(a, side))
        with torch.no_grad():
            of_b = self.discriminator.features(resized(b, side))
        maps = zip(of_a, of_b, strict=True)
        each = [(x.float() - y.float()).abs().mean(dim=(1, 2, 3)) for x, y in maps]
        return torch.stack(each).mean(dim=0)


def resized(images: Tensor, side: int) -> Tensor:
    """Square pictures [N, 3, h, h] at a discriminator's size, [N, 3, side, side].

    Raises:
        ValueError: pictures that are not square.
    """
    height, width = images.shape[-2:]
    if height != width:
        raise ValueError(
            f"a discriminator judges square pictures, not {width}x{height}; set the weights "
            "`features` and `adversarial` to 0"
        )
    if height == side:
        return images
    return F.interpolate(images, (side, side), mode="bilinear", antialias=True)


def _register(module: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    for name, values in (("_mean", mean), ("_std", std)):
        module.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)
