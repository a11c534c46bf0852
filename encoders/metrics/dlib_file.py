"""dlib_face_recognition_resnet_model_v1.dat, read strictly by a parser of our own.

The layout is that of dlib's `serialize.h`, `tensor` and `dnn` as they wrote this one file; nothing in it can
choose what is read next, so a file from strangers costs at most its own bytes. One of another network, cut
off or with bytes left over is refused.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from generators.files.checkpoint import CheckpointError

FILE_NAME = "dlib_face_recognition_resnet_model_v1.dat"
CHIP_SIDE = 150
DESCRIPTOR_DIM = 128
STEM = 32  # channels of the first convolution, 7x7 in steps of 2
BLOCKS = (
    *[(32, 1)] * 3,
    (64, 2),
    *[(64, 1)] * 3,
    (128, 2),
    *[(128, 1)] * 2,
    (256, 2),
    *[(256, 1)] * 2,
    (256, 2),
)
"""Channels and stride of each residual block, two 3x3 convolutions and a shortcut."""

_MAX_BYTES = 32 << 20  # the published file has 22,466,066
_MAX_EXPONENT = 200  # of a float; no infinity or NaN stands in the published file


@dataclass(frozen=True)
class Affine:
    """A convolution with the affine layer that follows it: `convolution(x) * scale + shift`, in float32."""

    weight: np.ndarray  # [out, in, k, k]
    bias: np.ndarray  # [out]
    scale: np.ndarray  # [out]
    shift: np.ndarray  # [out]


@dataclass(frozen=True)
class DlibWeights:
    """All numbers of the network."""

    mean: tuple[float, float, float]  # of red, green and blue, 0 to 255
    convolutions: list[Affine]  # the stem's, then two a block
    projection: np.ndarray  # [256, 128]


def read(path: str | os.PathLike) -> DlibWeights:
    """The numbers in the file.

    Raises:
        CheckpointError: missing, truncated, damaged, with bytes left over, or of another network.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror or error})") from None
    try:
        if len(data) > _MAX_BYTES:
            raise _Unexpected("it has more bytes than that file")
        return _network(_Bytes(data))
    except _Unexpected as error:
        raise CheckpointError(
            f"{path} is not a whole {FILE_NAME} ({error}); copy it again, or install the package "
            "face_recognition_models again"
        ) from None


class _Unexpected(Exception):
    """What the file has in place of what belongs there."""


class _Bytes:
    """Bytes taken from front to back, each as what has to stand there."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, n: int) -> bytes:
        taken = self._data[self._at : self._at + n]
        if len(taken) < n:
            raise _Unexpected(f"it ends after {len(self._data)} bytes, inside a layer")
        self._at += n
        return taken

    def integer(self) -> int:
        """A control byte, the sign and the number of bytes that follow; then the absolute value."""
        [control] = self.take(1)
        if control & 0x70 or not 1 <= control & 0x0F <= 8:
            raise _Unexpected(f"there is no integer at byte {self._at - 1}")
        value = int.from_bytes(self.take(control & 0x0F), "little")
        return -value if control & 0x80 else value

    def number(self) -> float:
        """A float as two integers: its mantissa, then the exponent of 2."""
        mantissa, exponent = self.integer(), self.integer()
        if abs(exponent) > _MAX_EXPONENT:
            raise _Unexpected(f"a number before byte {self._at} is not finite")
        return math.ldexp(mantissa, exponent)

    def integers(self, *wanted: int) -> None:
        """Integers that are known: versions, sizes, strides."""
        start = self._at
        if any(self.integer() != value for value in wanted):
            raise _Unexpected(f"its layout is another at byte {start}")

    def name(self, wanted: str) -> None:
        """A layer's name."""
        start = self._at
        self.integers(len(wanted))
        if self.take(len(wanted)) != wanted.encode():
            raise _Unexpected(f"there is no layer {wanted} at byte {start}")

    def tensor(self, *sizes: int) -> np.ndarray:
        """Version, four sizes and raw floats. [product of sizes] float32."""
        self.integers(2, *sizes)
        values = np.frombuffer(self.take(4 * math.prod(sizes)), "<f4").astype(np.float32)
        if not np.isfinite(values).all():
            raise _Unexpected(f"a weight before byte {self._at} is not finite")
        return values

    def end_of_layer(self) -> None:
        """Three flags of what was being computed, and three empty tensors."""
        if not set(self.take(3)) <= set(b"01"):
            raise _Unexpected(f"no layer ends at byte {self._at - 3}")
        for _ in range(3):
            self.tensor(0, 0, 0, 0)

    def end(self) -> None:
        """Nothing may be left."""
        if self._at < len(self._data):
            raise _Unexpected(f"{len(self._data) - self._at} bytes are left after its last layer")


def _network(file: _Bytes) -> DlibWeights:
    file.integers(1)
    file.name("loss_metric_2")
    for _ in range(2):  # margin and threshold of the loss
        file.number()
    file.integers(*_versions())
    file.name("input_rgb_image_sized")
    mean = file.number(), file.number(), file.number()
    file.integers(CHIP_SIDE, CHIP_SIDE)
    convolutions = [_convolution(file, 3, STEM, kernel=7, stride=2)]
    _plain(file, "relu_")
    _pool(file, "max_pool_2", side=3, stride=2)
    n_in = STEM
    for n_out, stride in BLOCKS:
        convolutions.append(_convolution(file, n_in, n_out, kernel=3, stride=stride))
        _plain(file, "relu_")
        convolutions.append(_convolution(file, n_out, n_out, kernel=3, stride=1))
        if stride == 2:
            _pool(file, "avg_pool_2", side=2, stride=2)
        _plain(file, "add_prev_")
        _plain(file, "relu_")
        n_in = n_out
    _pool(file, "avg_pool_2", side=0, stride=1)  # 0: over everything
    projection = _projection(file, n_in)
    file.end()
    return DlibWeights(mean, convolutions, projection)


def _versions() -> Iterator[int]:
    """Of every layer, the outermost first: each writes its version, then the network below it.

    2 is a layer that computes, 1 a mark (where a shortcut starts and ends), 3 the innermost of all.
    """
    yield from (2, 2)  # projection, mean over all pixels
    for _, stride in reversed(BLOCKS):
        shortcut = (2, 1, 1) if stride == 2 else ()  # pooling, and two marks more
        yield from (2, 2, *shortcut, 2, 2, 2, 2, 2, 1)
    yield from (2, 2, 2, 3)  # pooling, activation, affine, convolution


def _convolution(file: _Bytes, n_in: int, n_out: int, kernel: int, stride: int) -> Affine:
    is_first = n_in == 3
    padding = kernel // 2 if stride == 1 else 0
    file.name("con_4")
    filters = file.tensor(n_out * (n_in * kernel * kernel + 1), 1, 1, 1)
    file.integers(n_out, kernel, kernel, stride, stride, padding, padding)
    file.integers(1, n_out, n_in, kernel, kernel, 1, 1, n_out, 1, 1)  # views: filters, biases
    for _ in range(4):  # rates of learning and decay
        file.number()
    file.end_of_layer()
    if is_first:
        file.integers(1)  # version 3 tells of more
    file.name("affine_")
    affine = file.tensor(2 * n_out, 1, 1, 1)
    file.integers(*(1, 1, n_out, 1, 1) * 2, 0)  # views: scale, shift; 0: of whole channels
    file.end_of_layer()
    weight = filters[:-n_out].reshape(n_out, n_in, kernel, kernel)
    return Affine(weight, filters[-n_out:], affine[:n_out], affine[n_out:])


def _plain(file: _Bytes, name: str) -> None:
    file.name(name)
    file.end_of_layer()


def _pool(file: _Bytes, name: str, side: int, stride: int) -> None:
    file.name(name)
    file.integers(side, side, stride, stride, 0, 0)
    file.end_of_layer()


def _projection(file: _Bytes, n_in: int) -> np.ndarray:
    file.name("fc_2")
    file.integers(DESCRIPTOR_DIM, n_in)
    weight = file.tensor(n_in, DESCRIPTOR_DIM, 1, 1)
    file.integers(1, n_in, DESCRIPTOR_DIM, 1, 1, 1, 0, 0, 0, 0, 1)  # views; 1: no bias
    for _ in range(4):
        file.number()
    file.end_of_layer()
    return weight.reshape(n_in, DESCRIPTOR_DIM)
