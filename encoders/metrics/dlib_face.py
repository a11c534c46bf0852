"""dlib's face descriptor in plain torch: the same numbers, a fifteenth of the time on a CPU, or on a GPU.

The network is the 29-layer ResNet of dlib's `dnn_face_recognition_ex.cpp` (Davis King; public domain). What
it sees is a *chip*: the face turned upright and scaled to 150 x 150 as `dlib.get_face_chip` cuts it.
"""

from __future__ import annotations

import os

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.metrics import dlib_file
from encoders.metrics.dlib_file import BLOCKS, CHIP_SIDE, DESCRIPTOR_DIM, STEM, Affine
from generators.files import checkpoint
from generators.precision import float32_products

_PIXEL_SCALE = 256.0  # what dlib divides whole numbers by


class _Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is averaged where the block halves the map."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        # dlib pads by nothing where it steps by 2.
        self.first = nn.Conv2d(n_in, n_out, 3, stride, padding=1 if stride == 1 else 0)
        self.second = nn.Conv2d(n_out, n_out, 3, padding=1)
        self.is_down = stride == 2

    def forward(self, x: Tensor) -> Tensor:
        """[N, n_in, h, w] -> [N, n_out, h, w], or about half as high and wide."""
        inner = self.second(F.relu(self.first(x)))
        if not self.is_down:
            return F.relu(inner + x)
        return F.relu(_sum(inner, F.avg_pool2d(x, 2)))


class DlibFace(nn.Module):
    """The network in float32; affine layers, mean and scale of the pixels lie within its convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, STEM, 7, stride=2)
        widths = [STEM, *(n_out for n_out, _ in BLOCKS)]
        self.blocks = nn.Sequential(
            *(_Block(n_in, *block) for n_in, block in zip(widths, BLOCKS, strict=False))
        )
        self.projection = nn.Linear(widths[-1], DESCRIPTOR_DIM, bias=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """RGB from 0 to 255, [N, 3, 150, 150] float32 -> [N, 128], not normalised (about 1.4 long)."""
        x = F.max_pool2d(F.relu(self.stem(pixels)), 3, stride=2)
        return self.projection(self.blocks(x).mean(dim=(2, 3)))

    @torch.inference_mode()
    def describe(self, chips_u8: Tensor) -> Tensor:
        """Descriptors of face chips, on the device of the network.

        chips_u8: [N, 150, 150, 3] uint8 RGB, on any device.
        Returns [N, 128] float32, in IEEE float32 whatever the process computes in: equal to dlib's to 1e-6.
        Raises ValueError for another shape or type.
        """
        if chips_u8.shape[1:] != (CHIP_SIDE, CHIP_SIDE, 3) or chips_u8.dtype != torch.uint8:
            raise ValueError(
                f"chips must be [N, {CHIP_SIDE}, {CHIP_SIDE}, 3] uint8, not "
                f"{list(chips_u8.shape)} {chips_u8.dtype}"
            )
        device = self.stem.weight.device
        # Channels last is how pixels lie already.
        pixels = chips_u8.to(device, non_blocking=True).permute(0, 3, 1, 2).float()
        with float32_products("fp32"), torch.autocast(device.type, enabled=False):
            return self(pixels)


def load_dlib_face(path: str | os.PathLike) -> DlibFace:
    """The network of dlib's file `dlib_face_recognition_resnet_model_v1.dat`, on the CPU.

    Raises:
        CheckpointError: missing, truncated, damaged, with bytes left over, or of another network.
    """
    weights = dlib_file.read(path)
    names = ["stem", *(f"blocks.{i}.{name}" for i in range(len(BLOCKS)) for name in _BLOCK)]
    tensors = {}
    for name, convolution in zip(names, weights.convolutions, strict=True):
        weight, bias = _folded(convolution)
        if name == "stem":
            # It has no padding, so what is done to every pixel can be done to its weights.
            weight = weight / _PIXEL_SCALE
            bias = bias - (weight.sum(axis=(2, 3)) * weights.mean).sum(axis=1)
        tensors[f"{name}.weight"] = _float32(weight)
        tensors[f"{name}.bias"] = _float32(bias)
    tensors["projection.weight"] = _float32(weights.projection.T)
    network = checkpoint.restore(DlibFace, tensors, str(path))
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def similarity(first: Tensor, second: Tensor) -> Tensor:
    """1 - the distance of descriptors [N, 128] and [N, 128]: 1 for the same chip. [N] float64.

    dlib's own scale: its authors call two photos one person below a distance of 0.6: above 0.4 here. The
    descriptors are not centred, so their cosine tells little: 0.96 for one person, still 0.82 for two.
    """
    return 1 - (first.double() - second.double()).norm(dim=1)


_BLOCK = ("first", "second")


def _folded(layer: Affine) -> tuple[np.ndarray, np.ndarray]:
    """The convolution that does what both layers do, in float64."""
    scale = layer.scale.astype(np.float64)
    return layer.weight * scale[:, None, None, None], layer.bias * scale + layer.shift


def _float32(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def _sum(a: Tensor, b: Tensor) -> Tensor:
    """Sum over the larger of both sizes, of channels, rows and columns; the smaller goes on with zeros."""
    channels, height, width = (max(p, q) for p, q in zip(a.shape[1:], b.shape[1:], strict=True))

    def grown(x: Tensor) -> Tensor:
        beyond = (0, width - x.shape[3], 0, height - x.shape[2], 0, channels - x.shape[1])
        return F.pad(x, beyond)

    return grown(a) + grown(b)
