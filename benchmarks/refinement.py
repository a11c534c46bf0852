"""Time and memory of `--refine` at a published size, beside the five steps before it, in one run.

    python -m benchmarks.refinement [--resolution 1024] [--batch 1] [--device cuda] [--precision fp16]
    python -m benchmarks.refinement --demo

Random weights, the shape of ReStyle-pSp for FFHQ. How close it comes, weights that were learned tell
(`python -m benchmarks.quality`); how long it takes, these tell as well. The second form takes the demo's
model and a batch of 16 portraits, and times the presets `fast` and `best` as a whole.
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
from encoders import ReStyle, load_inverter
from encoders.execution import CudaGraph
from encoders.refinement import Refiner
from encoders.style_encoder import StyleEncoder, StyleEncoderConfig
from generators import Generator, GeneratorConfig
from pipeline import portraits
from pipeline.config import REFINE

FEW, MORE = (
    2,
    5,
)  # steps of two refinements, whose difference is the time of a step without what surrounds it
N_PORTRAITS, SEED = 16, 2_000_000_011
RESULTS = Path(__file__).parent / "results"


def model(args: argparse.Namespace) -> ReStyle:
    torch.manual_seed(0)
    generator = Generator(GeneratorConfig.standard(args.resolution))
    encoder = StyleEncoder(StyleEncoderConfig("BackboneEncoder", n_styles=generator.n_styles))
    made = ReStyle(encoder, generator, torch.zeros(512), (256, 256), args.precision)
    made.folds = True
    return made.to(args.device).eval().requires_grad_(False)


def presets(args: argparse.Namespace) -> dict[str, object]:
    """Of the demo's model: what `--refine fast` and `best` take, in units of the five steps before."""
    made = load_inverter("demo", device=args.device, precision=args.precision)
    z = portraits.sample(N_PORTRAITS, SEED)
    images = portraits.render(z, made.input_size[0], "aligned").to(args.device)
    device = torch.device(args.device)
    five = best_seconds(lambda: made.invert(images, 5), device, args.runs)
    found = made.invert(images, 5)
    taken = {}
    for name, n in REFINE.items():
        refiner = Refiner(made, n)
        refiner.capture = CudaGraph if args.device != "cpu" else None
        taken[f"{name}_over_five"] = (
            1 + best_seconds(partial(refiner, found), device, args.runs) / five
        )
    return {
        "device": _name(args.device),
        "threads": torch.get_num_threads(),
        "batch": N_PORTRAITS,
        "five_steps_s": five / N_PORTRAITS,
        **taken,
    }


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
        "device": _name(args.device),
        "threads": torch.get_num_threads(),
        **{name: getattr(args, name) for name in ("resolution", "batch", "precision")},
        "five_steps_s": five,
        "refinement_step_s": step,
        "around_s": taken[FEW] - FEW * step,
        "step_over_five": step / five,
        "memory_gib": _memory(args.device),
    }


def _name(device: str) -> str:
    return cpu_name() if device == "cpu" else torch.cuda.get_device_name()


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
    parser.add_argument("--demo", action="store_true")
    parser.add_argument("--results", type=Path)
    args = parser.parse_args(argv)
    name = "refinement_demo.json" if args.demo else "refinement_cpu.json"
    tell(presets(args) if args.demo else measure(args), args.results or RESULTS / name)


if __name__ == "__main__":
    main()
