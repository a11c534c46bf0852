"""How the loop is run on a device: step by step, compiled, or replayed as one CUDA graph.

Step by step is what every other way must equal and what each falls back to. Compiling (torch's inductor)
makes one pass of what stands between two convolutions and takes about a minute at 1024 px; capturing makes
one launch of a batch's two thousand and takes the time of three batches. Both are for batches of one size,
so that a smaller one is filled up.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from encoders.loop import Networks, Steps, loop
from generators.precision import float32_products

if TYPE_CHECKING:
    from encoders.restyle import ReStyle

Compile = Literal["auto", "always", "never"]
"""auto: on a GPU, once it pays. always: from the first batch on, on a CPU too."""

WORTH_COMPILING = 5_000
"""Images on one GPU after which a minute of compiling is won back: 8 ms an image, measured on an H200."""

N_WARM_UP = 2  # runs before a capture, in which libraries choose their kernels and take memory

Run = Callable[[Tensor], Steps]
Capture = Callable[[Run, Tensor], Run]


def capture_graph(run: Run, example: Tensor) -> Run:
    """``run`` as one CUDA graph, for tensors of the shape of ``example``. The results are copies."""
    with torch.cuda.device(example.device):
        static = example.clone()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(N_WARM_UP):
                run(static)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # Other threads copy and fetch meanwhile: their calls must not end the capture.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            found = run(static)

    def replay(target: Tensor) -> Steps:
        static.copy_(target)
        graph.replay()
        return Steps(*(tensor.clone() for tensor in found))

    return replay


def missing_for_compiling(device: torch.device) -> str:
    """What inductor lacks on this machine, "" where it has all."""
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        return "the package triton is not installed"
    compilers = [os.environ.get("CXX" if device.type == "cpu" else "CC", "")]
    compilers += ["g++", "clang++"] if device.type == "cpu" else ["gcc", "cc", "clang"]
    if not any(shutil.which(name) for name in compilers if name):
        return "there is no C compiler on the PATH"
    return ""


@dataclass(frozen=True)
class Plan:
    """What to do for speed, and in words why not more."""

    inductor: bool = False
    graph: bool = False
    reason: str = ""


def plan(wanted: Compile, device: torch.device, is_long: bool) -> Plan:
    """What ``wanted`` comes to on this machine.

    Args:
        is_long: so many images are to come that compiling for a minute pays.
    """
    is_gpu = device.type == "cuda"
    if wanted == "never":
        return Plan(reason="--compile never")
    if wanted == "auto" and not is_gpu:
        return Plan(reason="on a CPU, which only --compile always compiles for")
    if wanted == "auto" and not is_long:
        return Plan(reason="too few images to win back the minute that compiling takes")
    missing = missing_for_compiling(device)
    return Plan(inductor=not missing, graph=is_gpu, reason=missing)


@dataclass(frozen=True, eq=False)
class _Ready:
    """A run of the loop that was compiled or captured, and what it is of."""

    run: Run
    networks: Sequence[Networks]  # whose weights stay alive with it
    n_images: int


class Execution:
    """Runs the loop for a model or two; the results do not say how but in their last bits."""

    def __init__(
        self,
        wanted: Compile | Plan = "never",  # a plan is followed as it is, from the first batch on
        capture: Capture = capture_graph,
    ) -> None:
        self.wanted = wanted
        self._capture = capture
        self._n_seen = 0
        self._broken = False
        self._ready: dict[tuple, list[_Ready]] = {}
        self.used = "eager"

    def __deepcopy__(self, memo: dict) -> Execution:
        return Execution(self.wanted, self._capture)  # of another model: nothing is ready for it

    def forget(self) -> None:
        """Compile and capture anew: networks or averages are other ones."""
        self._ready.clear()

    def __call__(
        self, models: Sequence[ReStyle], target: Tensor, keep_images: bool = False
    ) -> Steps:
        """As `loop`, with the models' own networks.

        Raises:
            RuntimeError: from torch, out of memory among it; what fails in compiling or capturing does not.
        """
        self._n_seen += len(target)
        chosen = Plan() if self._broken else self._plan(target.device)
        with float32_products(models[0].precision), torch.no_grad():
            if chosen.inductor or chosen.graph:
                try:
                    return self._fast(chosen, models, target, keep_images)
                except Exception as error:
                    self._fall_back(error)
            self.used = "eager"
            return loop(models, _networks(models, for_compiler=False), target, keep_images)

    def _plan(self, device: torch.device) -> Plan:
        if isinstance(self.wanted, Plan):
            return self.wanted
        return plan(self.wanted, device, self._n_seen > WORTH_COMPILING)

    def _fall_back(self, error: Exception) -> None:
        self._broken = True
        self.forget()
        warnings.warn(
            f"compiling or capturing failed, so the model runs step by step from here on: "
            f"{type(error).__name__}: {str(error).strip()[:300]}",
            RuntimeWarning,
            stacklevel=4,
        )

    def _fast(
        self, chosen: Plan, models: Sequence[ReStyle], target: Tensor, keep_images: bool
    ) -> Steps:
        networks = _networks(models, for_compiler=chosen.inductor)
        ready = self._fitting(models, networks, target, keep_images)
        is_new = ready is None
        if ready is None:
            ready = self._prepare(chosen, models, networks, target, keep_images)
        missing = ready.n_images - len(target)
        full = F.pad(target, (0, 0, 0, 0, 0, 0, 0, missing)) if missing else target
        found = ready.run(full)
        if is_new and target.is_cuda:
            torch.cuda.synchronize(target.device)  # what failed in the first replay is to show here
        if not missing:
            return found
        n = len(target)
        return Steps(found.latents[:, :n], _first(found.images, n), found.thumbnails[:, :n])

    def _fitting(
        self,
        models: Sequence[ReStyle],
        networks: Sequence[Networks],
        target: Tensor,
        keep_images: bool,
    ) -> _Ready | None:
        """The smallest batch that is ready and takes these images."""
        key = _key(models, target, keep_images)
        ready = [
            each
            for each in self._ready.get(key, [])
            if all(a is b for a, b in zip(each.networks, networks, strict=True))
        ]
        self._ready[key] = ready
        fitting = [each for each in ready if each.n_images >= len(target)]
        return min(fitting, key=lambda each: each.n_images, default=None)

    def _prepare(
        self,
        chosen: Plan,
        models: Sequence[ReStyle],
        networks: Sequence[Networks],
        target: Tensor,
        keep_images: bool,
    ) -> _Ready:
        inner = networks
        if chosen.inductor:
            by_compiler = {of: compiled(of) for of in dict.fromkeys(networks)}
            inner = [by_compiler[of] for of in networks]

        run: Run = partial(loop, models, inner, keep_images=keep_images)
        for model in set(models):
            _ = model.average_image  # drawn now: no graph may hold how it is made
        if chosen.graph:
            run = self._capture(run, target)
        words = ["compiled"] * chosen.inductor + ["CUDA graph"] * chosen.graph
        self.used = ", ".join(words)
        ready = _Ready(run, networks, len(target))
        self._ready[_key(models, target, keep_images)].append(ready)
        return ready


def _networks(models: Sequence[ReStyle], for_compiler: bool) -> list[Networks]:
    """Those of each step's model, asked for once a model."""
    found = {model: model.networks(for_compiler) for model in dict.fromkeys(models)}
    return [found[model] for model in models]


def compiled(networks: Networks) -> Networks:
    """The same functions by inductor, each for one shape at a time; compiled at their first calls."""
    return replace(
        networks,
        encode=torch.compile(networks.encode, dynamic=False),
        synthesize=torch.compile(networks.synthesize, dynamic=False),
    )


def _key(models: Sequence[ReStyle], target: Tensor, keep_images: bool) -> tuple:
    return (*map(id, models), tuple(target.shape[1:]), target.device, keep_images)


def _first(images: Tensor, n: int) -> Tensor:
    """Of [N, 3, H, W] or [n_steps, N, 3, H, W], the first n images."""
    return images[:, :n] if images.ndim == 5 else images[:n]
