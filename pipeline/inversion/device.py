"""To the device that holds the model and back, beside its work: pinned memory, streams; nothing on a CPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor


class Device:
    """A GPU whose copies never hold up the networks, or the CPU.

    Networks run on the current stream. Copies have a stream for each direction, so that those of one batch
    run beside the arithmetic of another. Nothing but :meth:`Download.wait` and :meth:`beside` waits for work.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.is_cuda = device.type == "cuda"
        # Held while networks are told to run: torch's switches of precision are not a thread's own.
        self.turn = Lock()
        self._last: Any = None  # of its marks
        # None is whatever stream is current: on a CPU there is none.
        self._up = self._down = self._side = None
        if self.is_cuda:
            self._up, self._down = torch.cuda.Stream(device), torch.cuda.Stream(device)
            self._side = torch.cuda.Stream(device, priority=-1)  # short work goes first

    def host(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Memory of the host that the device can copy to and from by itself."""
        return torch.empty(tuple(shape), dtype=dtype, pin_memory=self.is_cuda)

    def upload(self, pixels: Tensor) -> Tensor:
        """[N, h, w, 3] uint8 in :meth:`host` memory -> the same on the device."""
        if self._up is not None:
            current = torch.cuda.current_stream(self._device)
            with torch.cuda.stream(self._up):
                pixels = pixels.to(self._device, non_blocking=True)
            current.wait_stream(self._up)
            pixels.record_stream(current)  # else its memory may be given away while it is read
        return pixels

    def download(self, tensors: Mapping[str, Tensor]) -> Download:
        """Begin to copy what the current stream computes; on a CPU it is there already."""
        if self._down is None:
            return Download(tensors)
        arrays = {name: self.host(tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
        self._down.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._down):
            for name, tensor in tensors.items():
                arrays[name].copy_(tensor, non_blocking=True)
                tensor.record_stream(self._down)
            event = torch.cuda.Event()
            event.record()
        return Download(arrays, event)

    def beside(
        self, work: Callable[[Tensor], Tensor], array: np.ndarray
    ) -> tuple[np.ndarray, float]:
        """What ``work`` makes of a uint8 array, and the seconds it took; no batch under way is waited for."""
        pinned = self.host(array.shape, torch.uint8)
        pinned.numpy()[...] = array
        with torch.cuda.stream(self._side):
            with self.turn:
                first = self._now()
                result = work(pinned.to(self._device, non_blocking=True))
                last = self._now()
            return result.cpu().numpy(), self.seconds(first, last)

    def mark(self) -> Any:
        """A moment in the device's work, for :meth:`seconds`."""
        self._last = self._now()
        return self._last

    def _now(self) -> Any:
        if not self.is_cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self, first: Any, last: Any) -> float:
        """Between two marks that the device has passed."""
        return first.elapsed_time(last) / 1000 if self.is_cuda else last - first

    def idle_since(self, moment: float) -> float:
        """Seconds since a moment of the host's clock in which the device had nothing to do.

        A GPU may have been busy until its last mark with what it was given before.
        """
        waited = time.perf_counter() - moment
        before = self._last
        if not self.is_cuda or before is None:
            return waited
        if not before.query():
            return 0.0
        now = self._now()
        now.synchronize()  # at once, for nothing is under way
        return min(waited, self.seconds(before, now))


class Download:
    """Tensors on their way to the host."""

    def __init__(self, tensors: Mapping[str, Tensor], event: Any = None) -> None:
        self._tensors, self._event = tensors, event

    def wait(self) -> dict[str, Any]:
        """The arrays, once they are there.

        Raises:
            RuntimeError: of CUDA, whatever failed on the device.
        """
        if self._event is not None:
            self._event.synchronize()
        return {name: tensor.numpy() for name, tensor in self._tensors.items()}


def images_to_u8(images: Tensor) -> Tensor:
    """[..., 3, H, W] in [-1, 1] -> [..., H, W, 3] uint8 on their device, rounded as `images.to_u8` does."""
    scaled = images.float().clamp(-1, 1).add(1).mul(127.5).round()
    return scaled.to(torch.uint8).movedim(-3, -1).contiguous()
