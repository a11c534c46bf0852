"""Time and memory of `--refine` at a published size, beside the five steps before it, in one run.

    python -m benchmarks.refinement [--resolution 1024] [--batch 1] [--device cuda] [--precision fp16]

Random weights, the shape of ReStyle-pSp for FFHQ. How close it comes, weights that were learned tell
(`python -m benchmarks.quality`); how long it takes, these tell as well.
"""

from __future__ import annotations

import argparse
import resource
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from benchmarks.inversion import cpu_name, tell
from benchmarks.quality.methods import best_seconds
from encoders import ReStyle
from encoders.execution import CudaGraph
from encoders.refinement import Refiner
from encoders.style_encoder import StyleEncoder, StyleEncoderConfig
from generators import Generator, GeneratorConfig

FEW, MORE = (
    2,
    5,
)  # steps of two refinements, whose difference is the time of a step without what surrounds it
RESULTS = Path(__file__).parent / "results"


def model(args: argparse.Namespace) -> ReStyle:
    torch.manual_seed(0)
    generator = Generator(GeneratorConfig.standard(args.resolution))
    encoder = StyleEncoder(StyleEncoderConfig("BackboneEncoder", n_styles=generator.n_styles))
    made = ReStyle(encoder, generator, torch.zeros(512), (256, 256), args.precision)
    made.folds = True
    return made.to(args.device).eval().requires_grad_(False)


def measure(args: argparse.Namespace) -> dict[str, object]:
    made = model(args)
    images = torch.rand(args.batch, 3, 256, 256, device=args.device) * 2 - 1
    device = torch.device(args.device)
    five = best_seconds(lambda: made.invert(images, 5), device, args.runs) / args.batch
    found = made.invert(images, 5)
    # Of too few gradients to be of use: what they are does not change what a step takes.
    gradients = torch.randn(8, made.generator.n_styles, made.generator.w_dim)
    taken = {}
    for n in (FEW, MORE):
        refiner = Refiner(made, n, gradients=gradients)
        refiner.capture = CudaGraph if args.device != "cpu" else None
        taken[n] = best_seconds(partial(refiner, found), device, args.runs) / args.batch
    step = (taken[MORE] - taken[FEW]) / (MORE - FEW)
    return {
        "device": cpu_name() if args.device == "cpu" else torch.cuda.get_device_name(),
        "threads": torch.get_num_threads(),
        **{name: getattr(args, name) for name in ("resolution", "batch", "precision")},
        "five_steps_s": five,
        "refinement_step_s": step,
        "around_s": taken[FEW] - FEW * step,
        "step_over_five": step / five,
        "memory_gib": _memory(args.device),
    }


def _memory(device: str) -> float:
    """At most so far: of this process, or of the device."""
    if device == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return torch.cuda.max_memory_allocated() / 2**30


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser("benchmarks.refinement", description=__doc__)
    parser.add_argument("--resolution", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--results", type=Path, default=RESULTS / "refinement_cpu.json")
    args = parser.parse_args(argv)
    tell(measure(args), args.results)


if __name__ == "__main__":
    main()
