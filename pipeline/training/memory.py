"""What memory there is for a training, asked before the first batch; Linux would kill it without a word."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from pathlib import Path

import torch

from generators.training.memory import Need
from pipeline.errors import ConfigError

GIB = 2**30
CGROUPS = Path("/sys/fs/cgroup")
# Limit and use of a control group, and what of it Linux can take back; version 2, then 1.
CGROUP_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def require(need: Need | None, device: torch.device) -> None:
    """Refuse a batch that will not fit, and name the settings that do.

    Args:
        need: None: nobody has measured what this kind of training takes.

    Raises:
        ConfigError: it needs more than is free.
    """
    free = available(device)
    if need is None or free is None or need.n_bytes <= free:
        return
    fits = next((flags for flags, n_bytes in need.instead if n_bytes <= free), None)
    advice = (
        f"pass {fits}, which trains the same in smaller parts"
        if fits
        else "train at a lower --resolution, with fewer --channels, or on a machine with more memory"
    )
    raise ConfigError(
        f"a batch needs about {need.n_bytes / GIB:.1f} GiB of memory, but {free / GIB:.1f} GiB are free "
        f"here; {advice}"
    )


def available(device: torch.device) -> int | None:
    """Bytes that this worker can still take; None where nothing tells."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = [n for n in (_of_machine(), *_of_cgroups()) if n is not None]
    n_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # Ray Train says it to its workers
    return min(free) // max(1, n_here) if free else None


def first_batch(seconds: float, device: torch.device) -> str:
    """What the first batch took; how long all of them take is told by later ones, see `pace`."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device)
    return f"the first batch took {seconds:.1f} s and {peak / GIB:.1f} GiB of memory at its peak"


def _of_machine() -> int | None:
    with suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def _of_cgroups() -> list[int]:
    """What the control groups of this process still allow: its own and those above it."""
    found = []
    for group in _cgroups():
        for limit, use, reclaimable in CGROUP_FILES:
            with suppress(OSError, ValueError):  # no such file, or no limit: "max"
                lines = (group / "memory.stat").read_text().splitlines()
                back = next((int(x.split()[1]) for x in lines if x.split()[0] == reclaimable), 0)
                most = int((group / limit).read_text())
                found.append(max(0, most - int((group / use).read_text()) + back))
    return found


def _cgroups() -> list[Path]:
    groups = [CGROUPS, CGROUPS / "memory"]  # in a container, its own are seen as the topmost
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers in ("", "memory"):
                top = CGROUPS / controllers
                own = top / path.lstrip("/")
                groups += [own, *(parent for parent in own.parents if parent.is_relative_to(top))]
    return groups
