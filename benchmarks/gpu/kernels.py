"""The kernels of a function by what they do, from torch's profiler."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.timing import synchronize

_RUNS = 3
# First match wins: inductor's names say which operations went into a kernel, convolutions among them.
_GROUPS = (
    ("pointwise", r"^triton_(poi|red|per|for)"),
    ("layout", r"nchwtonhwc|nhwctonchw|transpose|tensortransform|permute|memcpy|memset"),
    ("layout", r"copy_kernel|catarray|aten::(copy_|contiguous|clone|cat|_to_copy|fill_|zero_)"),
    ("pointwise", r"bn_fw|batch_?norm|group_?norm|reduce|layer_?norm"),
    ("convolution", r"conv|xmma|cutlass|gemm|winograd|wgrad|dgrad|nvjet|cudnn|splitk|triton_tem"),
    ("convolution", r"aten::(b?addb?mm|b?mm|addmv)|gemv|dot"),
    ("pointwise", r"elementwise|vectorized|unrolled|upsample|avg_?pool|max_?pool|reflection"),
    ("pointwise", r"aten::(mul|add|sub|div|leaky_relu|rsqrt|square|sum|mean|silu|sigmoid|prelu)"),
)
GROUPS = ("convolution", "pointwise", "layout", "other")


@dataclass(frozen=True)
class Kernel:
    """All launches of one kernel in a run."""

    name: str
    us: float  # their time together
    launches: float

    @property
    def group(self) -> str:
        """convolution (and other matrix products), pointwise (and reductions), layout (and copies), other."""
        name = self.name.lower()
        return next((group for group, pattern in _GROUPS if re.search(pattern, name)), "other")


def profiled(run: Callable[[], object], device: torch.device) -> list[Kernel]:
    """What one run starts on a device, longest first; on a CPU torch's operations take their place."""
    is_gpu = device.type == "cuda"
    run()
    synchronize(device)
    # A GPU's kernels are seen in a CUDA graph too, where no operation is.
    with profile(activities=[ProfilerActivity.CUDA if is_gpu else ProfilerActivity.CPU]) as seen:
        for _ in range(_RUNS):
            run()
        synchronize(device)
    kernels = []
    for event in seen.key_averages():
        if (event.device_type == DeviceType.CUDA) != is_gpu:
            continue
        us = event.self_device_time_total if is_gpu else event.self_cpu_time_total
        kernels.append(Kernel(event.key, us / _RUNS, event.count / _RUNS))
    return sorted(kernels, key=lambda kernel: -kernel.us)


def by_group(kernels: Iterable[Kernel]) -> dict[str, float]:
    """Milliseconds of each group."""
    sums = dict.fromkeys(GROUPS, 0.0)
    for kernel in kernels:
        sums[kernel.group] += kernel.us / 1e3
    return sums
