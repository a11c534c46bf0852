"""Seconds per image of StyleGAN2 and StyleGAN3 on a CPU: reference formulation against ours, in one run.

    python -m benchmarks.generators [--resolution 256] [--batch 1] [--repeats 3]

Random weights at the published widths: StyleGAN2 config F, StyleGAN3 configurations T and R. The reference is
the papers' formulation in float32: weights scaled for each sample, one grouped convolution, filters over
zeros that were stuffed in. The floor is the time that our arithmetic alone would take at the speed of a large
matrix product measured in the same run. One thread; times are the CPU's own for that thread, since a machine
that others use makes everybody wait, and formulations take turns, so that the others' use of its caches meets
them alike.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial

import torch

from benchmarks.inversion import RESULTS, cpu_name, flops
from generators import Generator, GeneratorConfig, StyleGAN3Config, StyleGAN3Generator
from generators.precision import DTYPES
from generators.style_based import StyleBasedGenerator

FORMULATIONS = ("reference", "ours")


def networks(resolution: int) -> dict[str, Callable[[], StyleBasedGenerator]]:
    """What is measured, by name; one is made at a time."""
    return {
        "StyleGAN2": lambda: Generator(GeneratorConfig.standard(resolution)),
        "StyleGAN3-T": lambda: StyleGAN3Generator(StyleGAN3Config.standard(resolution, "T")),
        "StyleGAN3-R": lambda: StyleGAN3Generator(StyleGAN3Config.standard(resolution, "R")),
    }


def once(generator: StyleBasedGenerator, latents: torch.Tensor, formulation: str) -> float:
    """Seconds of one batch."""
    generator.synthesis.reference = formulation == "reference"
    return taken(lambda: generator.synthesis(latents))


def taken(job: Callable[[], object]) -> float:
    """Seconds of this thread on the CPU."""
    start = time.thread_time()
    job()
    return time.thread_time() - start


def peak(dtype: torch.dtype) -> float:
    """FLOP/s of a large matrix product."""
    size = 2048
    a, b = torch.randn(2, size, size).to(dtype).unbind(0)
    return 2 * size**3 / min(taken(lambda: a @ b) for _ in range(5))


def measured(generator: StyleBasedGenerator, batch: int, repeats: int) -> list[dict[str, object]]:
    """A row for each precision of ours, beside the reference in float32: the best times of both."""
    latents = torch.randn(batch, generator.n_styles, generator.w_dim)
    work, times = {}, {}
    for formulation in FORMULATIONS:  # this warms up, too
        generator.synthesis.reference = formulation == "reference"
        work[formulation] = flops(partial(generator.synthesis, latents)) / batch
    found: dict[str, list[float]] = {name: [] for name in FORMULATIONS}
    for _ in range(repeats):
        for formulation in FORMULATIONS:
            found[formulation].append(once(generator, latents, formulation) / batch)
    times["fp32"] = min(found["ours"])
    generator.at("bf16")
    times["bf16"] = min(once(generator, latents, "ours") / batch for _ in range(repeats + 1))
    reference = min(found["reference"])
    return [
        {
            "precision": precision,
            "reference_gflop": work["reference"] / 1e9,
            "ours_gflop": work["ours"] / 1e9,
            "reference_s": reference,
            "ours_s": ours,
            "ratio": reference / ours,
            "floor_s": work["ours"] / peak(DTYPES[precision]),
        }
        for precision, ours in times.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    rows = []
    print(f"{'':16} {'GFLOP':>13}  reference    ours   ratio   floor")
    with torch.inference_mode():
        for name, make in networks(args.resolution).items():
            generator = make().requires_grad_(False)
            for row in measured(generator, args.batch, args.repeats):
                rows.append({"generator": name, **row})
                print(
                    f"{name:11} {row['precision']:4} {row['reference_gflop']:6.0f} {row['ours_gflop']:6.0f} "
                    f"{row['reference_s']:9.2f} s {row['ours_s']:6.2f} s {row['ratio']:5.2f}x "
                    f"{row['floor_s']:6.2f} s",
                    flush=True,
                )
    record = {
        "device": cpu_name(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        **vars(args),
        "rows": rows,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "generators_cpu.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
