"""CPU tasks anywhere in a Ray cluster, each a stateless task that asks for one CPU.

Ray's own retries are switched off: it runs a task that is out of memory again for ever, and of a chunk
that dies it cannot tell which item did it.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import ray
from ray import exceptions

from pipeline.engine.tasks import PAUSE_S
from pipeline.errors import ShardError

# Nodes lost at one chunk before the shard is given back to the driver.
N_LOST = 10
# After Ray has killed a worker because its node's memory is short, whoever is at fault.
MEMORY_PAUSE_S = 5.0
LOST = (exceptions.NodeDiedError, exceptions.ObjectLostError, exceptions.LocalRayletDiedError)


class RayTasks:
    """Chunks are sent to whatever node has a CPU to spare."""

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Send a chunk away; a reference to its answer."""
        return _remote(function).remote(*arguments)

    def answer(self, reference: Any) -> Any:
        """The answer of a task; None where its worker died, or its node went away."""
        return _answer(reference, None)

    def again(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The same of a task that is sent now. A node that goes away is nobody's fault.

        Raises:
            ShardError: the cluster lost the task's node over and over.
        """
        return _answer(self.submit(function, *arguments), lambda: self.submit(function, *arguments))


@functools.cache
def _remote(function: Callable[..., Any]) -> Any:
    return ray.remote(num_cpus=1, max_retries=0)(function)


def _answer(reference: Any, resend: Callable[[], Any] | None) -> Any:
    for _ in range(N_LOST):
        try:
            return ray.get(reference)
        except exceptions.WorkerCrashedError:
            return None
        except exceptions.OutOfMemoryError:
            time.sleep(MEMORY_PAUSE_S)
            return None
        except LOST:
            if resend is None:
                return None
            time.sleep(PAUSE_S)
            reference = resend()
    raise ShardError(f"the cluster lost {N_LOST} nodes that worked on one chunk of images")
