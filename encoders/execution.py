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
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from encoders.loop import Networks, Step, Steps, loop, one_step
from generators.precision import Precision, float32_products

if TYPE_CHECKING:
    from encoders.restyle import ReStyle

Compile = Literal["auto", "always", "never"]
"""auto: on a GPU, once it pays. always: from the first batch on, on a CPU too."""

WORTH_COMPILING = 5_000
"""Images on one GPU after which a minute of compiling is won back: 8 ms per image, measured on an H200."""

N_WARM_UP = 2  # runs before a capture, in which libraries choose their kernels and take memory

Run = Callable[..., Any]  # tensors -> a NamedTuple of tensors, such as `Steps`
Capture = Callable[..., Run]  # a run and examples of its tensors -> the same run


class CudaGraph:
    """A function as one CUDA graph, for tensors of the shapes of examples. What it returns are copies."""

    def __init__(self, run: Run, *examples: Tensor) -> None:
        self._run = run  # a graph reads weights and constants where they lay: they must stay
        self._static = [example.clone() for example in examples]
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(examples[0].device):
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(N_WARM_UP):
                    run(*self._static)
            torch.cuda.current_stream().wait_stream(side)
            # Other threads copy and fetch meanwhile: their calls must not end the capture.
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                self._found = run(*self._static)

    def __call__(self, *inputs: Tensor) -> Any:
        for static, given in zip(self._static, inputs, strict=True):
            static.copy_(given)
        self._graph.replay()
        return type(self._found)(*(tensor.clone() for tensor in self._found))


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
    """Runs the loop for a model or two; how it does shows in the last bits of the results alone."""

    def __init__(
        self,
        wanted: Compile | Plan = "never",  # a plan is followed as it is, from the first batch on
        is_long: bool | None = None,  # whether many images are to come; None: seen by counting them
        batch_size: int = 1,  # at least so many images are compiled or captured for
        capture: Capture = CudaGraph,
    ) -> None:
        self.wanted, self._is_long, self._batch_size = wanted, is_long, batch_size
        self._capture = capture
        self._n_seen = 0
        self._broken = ""
        self._ready: dict[tuple, list[_Ready]] = {}
        # Of the last batch: "eager", "compiled", "CUDA graph", or the latter two.
        self.used = "eager"
        self.reason = ""  # why not more

    def __deepcopy__(self, memo: dict) -> Execution:
        # Of another model: nothing is ready for it.
        return Execution(self.wanted, self._is_long, self._batch_size, self._capture)

    def __call__(
        self,
        models: Sequence[ReStyle],
        target: Tensor,
        keep_images: bool = False,
        precision: Precision | None = None,
    ) -> Steps:
        """As `loop`, with the models' own networks, at their precision or another one.

        Raises:
            RuntimeError: from torch, out of memory among it; not what fails in compiling or capturing.
        """
        self._n_seen += len(target)

        def of(networks: Sequence[Networks]) -> Run:
            return partial(loop, models, networks, keep_images=keep_images)

        found = self._run(models, of, (target,), ("loop", keep_images), precision)
        n = len(target)
        images = found.images[:, :n] if keep_images else found.images[:n]
        return Steps(found.latents[:, :n], images, found.thumbnails[:, :n])

    def step(
        self,
        model: ReStyle,
        target: Tensor,
        reconstruction: Tensor,
        latents: Tensor,
        precision: Precision | None = None,
    ) -> Step:
        """One step of the loop for images that are wherever they are; arguments as of `ReStyle.step`.

        Raises:
            RuntimeError: as above.
        """

        def of(networks: Sequence[Networks]) -> Run:
            return partial(one_step, model, networks[0])

        found = self._run([model], of, (target, reconstruction, latents), ("step",), precision)
        return Step(*(tensor[: len(target)] for tensor in found))

    def _run(
        self,
        models: Sequence[ReStyle],
        of: Callable[[Sequence[Networks]], Run],
        inputs: Sequence[Tensor],
        kind: tuple,
        precision: Precision | None,
    ) -> Any:
        """What a run of some networks makes of its inputs, in the fastest way that works.

        Args:
            of: from the networks of each model to the run.
            inputs: their first axis counts images.
            kind: of the run; with shapes and models, what one is ready for.
        """
        device = inputs[0].device
        chosen = Plan(reason=self._broken) if self._broken else self._plan(device)
        self.used, self.reason = "eager", chosen.reason
        precision = precision or models[0].precision
        with float32_products(precision):
            if chosen.inductor or chosen.graph:
                try:
                    return self._fast(chosen, models, of, inputs, kind, precision)
                except Exception as error:
                    self._fall_back(error)
            return of(_networks(models, False, precision))(*inputs)

    def _plan(self, device: torch.device) -> Plan:
        if isinstance(self.wanted, Plan):
            return self.wanted
        is_long = self._n_seen > WORTH_COMPILING if self._is_long is None else self._is_long
        return plan(self.wanted, device, is_long)

    def _fall_back(self, error: Exception) -> None:
        why = f"{type(error).__name__}: {str(error).strip()[:300]}"
        self._broken = self.reason = f"compiling or capturing failed ({why})"
        self.used = "eager"
        self._ready.clear()
        warnings.warn(
            f"{self._broken}; the model runs uncompiled from here on",
            RuntimeWarning,
            stacklevel=4,
        )

    def _fast(
        self,
        chosen: Plan,
        models: Sequence[ReStyle],
        of: Callable[[Sequence[Networks]], Run],
        inputs: Sequence[Tensor],
        kind: tuple,
        precision: Precision,
    ) -> Any:
        networks = _networks(models, chosen.inductor, precision)
        n, device = len(inputs[0]), inputs[0].device
        key = (kind, len(models), *(tuple(each.shape[1:]) for each in inputs))
        ready = self._fitting(key, networks, n)
        is_new = ready is None
        if ready is None:
            full = filled_up(inputs, max(self._batch_size, n))
            run = _prepared(chosen, of, networks, full, self._capture)
            ready = _Ready(run, networks, len(full[0]))
            self._ready[key].append(ready)
        outputs = ready.run(*filled_up(inputs, ready.n_images))
        if is_new and device.type == "cuda":
            torch.cuda.synchronize(device)  # what failed in the first replay is to show here
        self.used = ", ".join(["compiled"] * chosen.inductor + ["CUDA graph"] * chosen.graph)
        return outputs

    def _fitting(self, key: tuple, networks: Sequence[Networks], n: int) -> _Ready | None:
        """The smallest batch that is ready for these networks and takes ``n`` images."""
        # Of other weights, an average or a precision that the models had before: given up.
        self._ready[key] = [
            each
            for each in self._ready.get(key, [])
            if all(a is b for a, b in zip(each.networks, networks, strict=True))
        ]
        fitting = [each for each in self._ready[key] if each.n_images >= n]
        return min(fitting, key=lambda each: each.n_images, default=None)


def _prepared(
    chosen: Plan,
    of: Callable[[Sequence[Networks]], Run],
    networks: Sequence[Networks],
    examples: Sequence[Tensor],
    capture: Capture,
) -> Run:
    """The run compiled and captured as chosen, for batches of the size of the examples."""
    if chosen.inductor:
        # What networks keep for a size, they make when they see it first: not to be compiled in.
        of(networks)(*examples)
        by_compiler = {each: compiled(each) for each in dict.fromkeys(networks)}
        networks = [by_compiler[each] for each in networks]
    run = of(networks)
    return capture(run, *examples) if chosen.graph else run


def filled_up(inputs: Sequence[Tensor], n: int) -> Sequence[Tensor]:
    """Tensors [N, ...] with zeros behind, which are grey images among them, up to ``n``."""
    missing = n - len(inputs[0])
    if not missing:
        return inputs
    return [torch.cat([each, each.new_zeros(missing, *each.shape[1:])]) for each in inputs]


def _networks(
    models: Sequence[ReStyle], for_compiler: bool, precision: Precision
) -> list[Networks]:
    """Those of each step's model, asked for once a model."""
    networks = {model: model.networks(for_compiler, precision) for model in dict.fromkeys(models)}
    return [networks[model] for model in models]


def compiled(networks: Networks) -> Networks:
    """The same functions by inductor, each for one shape at a time; compiled at their first calls."""
    return replace(
        networks,
        encode=torch.compile(networks.encode, dynamic=False),
        synthesize=torch.compile(networks.synthesize, dynamic=False),
    )
