"""Backbones for inference: batch norms folded into the convolutions beside them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.backbones import (
    BasicBlock,
    ImprovedResidual,
    IRBackbone,
    ResNet34,
    SqueezeExcitation,
    maps_of,
)

_EXACT = torch.float64  # what weights are derived in, before they are cast


def fold_backbone(backbone: IRBackbone | ResNet34, dtype: torch.dtype) -> FoldedBackbone:
    """An inference-only twin: [N, in_channels, h, w] in `dtype` -> the same maps, channels_last."""
    blocks: list[nn.Module] = []
    if isinstance(backbone, IRBackbone):
        convolution, norm, slopes = backbone.input_layer
        blocks = [_FoldedResidual(block, dtype) for block in backbone.body]  # type: ignore[arg-type]
    else:
        convolution, norm, slopes = backbone.conv1, backbone.bn1, backbone.relu
        blocks = [_FoldedBasicBlock(block, dtype) for block in backbone.body]  # type: ignore[arg-type]
    return FoldedBackbone(
        _FoldedConv(convolution, norm, dtype), slopes, blocks, backbone.stage_ends
    )


class FoldedBackbone(nn.Module):
    """A first convolution, PReLU, and blocks, of which those that end a stage give its map."""

    slopes: Tensor

    def __init__(
        self, stem: _FoldedConv, slopes: nn.Module, blocks: list[nn.Module], stage_ends: list[int]
    ) -> None:
        super().__init__()
        self.stem, self.body, self._stage_ends = stem, nn.Sequential(*blocks), stage_ends
        self.register_buffer("slopes", _slopes(slopes, stem.weight.dtype))

    def forward(self, x: Tensor) -> list[Tensor]:
        """[N, in_channels, h, w] -> the maps after each stage, finest first."""
        x = F.prelu(self.stem(x.contiguous(memory_format=torch.channels_last)), self.slopes)
        return maps_of(self.body, self._stage_ends, x)


class _FoldedConv(nn.Module):
    """A convolution and the batch norm that follows it: [N, c, h, w] -> [N, channels, h', w']."""

    weight: Tensor
    bias: Tensor

    def __init__(self, conv: nn.Module, norm: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        assert isinstance(conv, nn.Conv2d)
        scale, shift = _affine(norm)
        weight = conv.weight.to(_EXACT) * scale[:, None, None, None]
        self.register_buffer("weight", weight.to(dtype, memory_format=torch.channels_last))
        self.register_buffer("bias", shift.to(dtype))
        self.stride, self.padding = conv.stride, conv.padding

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding)


class _NormedConv(nn.Module):
    """A batch norm and the 3x3 convolution that follows it: [N, c, h, w] -> [N, channels, h, w].

    The convolution pads with zeros what comes out of the norm, so that it sees less of the norm's
    shift along the border: what it makes of that is no bias but a map, the same for all images.
    """

    weight: Tensor
    taps: Tensor

    def __init__(self, norm: nn.Module, conv: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        assert isinstance(conv, nn.Conv2d)
        scale, shift = _affine(norm)
        weight = conv.weight.to(_EXACT) * scale[:, None, None]
        self.register_buffer("weight", weight.to(dtype, memory_format=torch.channels_last))
        # What each tap of the kernel makes of the shift, [channels, 3, 3].
        taps = torch.einsum("oiyx,i->oyx", conv.weight.to(_EXACT), shift)
        self.register_buffer("taps", taps.float())
        # One for each size that was seen: a CUDA graph may have been captured with any of them.
        self._maps: dict[tuple[int, int], Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, None, 1, 1).add_(self._map(x.shape[2], x.shape[3]))

    def _map(self, height: int, width: int) -> Tensor:
        """What the convolution makes of the shift, [1, channels, height, width]."""
        cached = self._maps.get((height, width))
        if cached is not None:
            return cached
        with torch.inference_mode(False), torch.no_grad():
            reach = [_reach(size, self.taps) for size in (height, width)]
            made = torch.einsum("oab,ya,xb->oyx", self.taps, *reach)[None].to(self.weight.dtype)
            made = made.contiguous(memory_format=torch.channels_last)
        if not torch.compiler.is_compiling():  # there, it is a part of the graph
            self._maps[height, width] = made
        return made


def _reach(size: int, like: Tensor) -> Tensor:
    """[size, 3]: 1 where a tap of a kernel of 3, around that place, falls on one of so many pixels."""
    places = torch.arange(size, device=like.device)[:, None]
    seen = places + torch.arange(-1, 2, device=like.device)
    return ((seen >= 0) & (seen < size)).to(like.dtype)


class _FoldedResidual(nn.Module):
    """`ImprovedResidual`, with squeeze and excitation."""

    slopes: Tensor
    squeeze: Tensor
    excite: Tensor

    def __init__(self, block: ImprovedResidual, dtype: torch.dtype) -> None:
        super().__init__()
        norm, first, slopes, second, after, attention = block.res_layer
        self.first = _NormedConv(norm, first, dtype)
        self.register_buffer("slopes", _slopes(slopes, dtype))
        self.second = _FoldedConv(second, after, dtype)
        assert isinstance(attention, SqueezeExcitation)
        self.register_buffer("squeeze", attention.fc1.weight.flatten(1).detach().to(dtype))
        self.register_buffer("excite", attention.fc2.weight.flatten(1).detach().to(dtype))
        self.shortcut = _folded_shortcut(block.shortcut_layer, dtype)
        self.stride = self.second.stride[0]

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(F.prelu(self.first(x), self.slopes))
        squeezed = F.relu(F.linear(y.mean((2, 3)), self.squeeze))
        gate = torch.sigmoid(F.linear(squeezed, self.excite))[:, :, None, None]
        if self.shortcut is not None:
            return torch.addcmul(self.shortcut(x), y, gate)
        return torch.addcmul(x[:, :, :: self.stride, :: self.stride], y, gate)


class _FoldedBasicBlock(nn.Module):
    """The block of ResNet-34."""

    def __init__(self, block: BasicBlock, dtype: torch.dtype) -> None:
        super().__init__()
        self.first = _FoldedConv(block.conv1, block.bn1, dtype)
        self.second = _FoldedConv(block.conv2, block.bn2, dtype)
        self.shortcut = _folded_shortcut(block.downsample, dtype)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.shortcut is None else self.shortcut(x)
        return self.second(self.first(x).relu_()).add_(shortcut).relu_()


def _folded_shortcut(layer: nn.Module | None, dtype: torch.dtype) -> _FoldedConv | None:
    """None where the way around a block is its input, perhaps every other pixel of it."""
    return _FoldedConv(layer[0], layer[1], dtype) if isinstance(layer, nn.Sequential) else None


def _affine(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Scale and shift of each channel that a batch norm amounts to, [channels] each."""
    assert isinstance(norm, nn.BatchNorm2d)
    mean, variance = (norm.get_buffer(f"running_{name}").to(_EXACT) for name in ("mean", "var"))
    scale = norm.weight.to(_EXACT) / (variance + norm.eps).sqrt()
    return scale, norm.bias.to(_EXACT) - mean * scale


def _slopes(layer: nn.Module, dtype: torch.dtype) -> Tensor:
    """Of a PReLU, below zero."""
    assert isinstance(layer, nn.PReLU)
    return layer.weight.detach().to(dtype)
