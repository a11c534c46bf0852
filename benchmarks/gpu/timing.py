"""Seconds on a device, and how many are left."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

_AT_LEAST, _AT_MOST = 3, 30  # runs that are timed


class Clock:
    """The budget of a session."""

    def __init__(self, budget_s: float) -> None:
        self._end = time.monotonic() + budget_s

    def left_s(self) -> float:
        return self._end - time.monotonic()


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def once(run: Callable[[], object], device: torch.device) -> float:
    """Seconds that one run takes: by CUDA events around it on a GPU."""
    if device.type != "cuda":
        start = time.perf_counter()
        run()
        return time.perf_counter() - start
    before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    before.record()
    run()
    after.record()
    after.synchronize()
    return before.elapsed_time(after) / 1e3


def repeated(run: Callable[[], object], device: torch.device, for_s: float) -> dict[str, float]:
    """Median and best seconds of several runs, after one to warm up.

    Args:
        for_s: how long to go on, once three runs are done.
    """
    run()
    synchronize(device)
    times: list[float] = []
    while len(times) < _AT_LEAST or (sum(times) < for_s and len(times) < _AT_MOST):
        times.append(once(run, device))
    return {"median": median(times), "best": min(times)}


def captured(function: Callable[[Tensor], Tensor], example: Tensor) -> Callable[[], Tensor]:
    """``function(example)`` as one CUDA graph, to be replayed."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            function(example)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = function(example)

    def replay() -> Tensor:
        graph.replay()
        return result

    return replay
