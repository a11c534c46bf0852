"""Seconds per image of a published-size inversion on a CPU: reference formulation against ours, in one run.

    python -m benchmarks.inversion [--resolution 1024] [--steps 5] [--compile]

(On a GPU: `python -m benchmarks.gpu`.)

Random weights, the shape of ReStyle-pSp for FFHQ: IR-SE50 with 18 style heads at 256 px, StyleGAN2 config F.
The reference is the paper's formulation (weights scaled for each sample, grouped convolution, planar layout;
an encoder of single layers, its heads one after the other) with torch's defaults, measured by a child process
without the huge pages that ours asks for. The floor is the time that the arithmetic alone would take at the
speed of a large matrix product measured in the same run, in the same precision.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from encoders.folded import fold
from encoders.style_encoder import StyleEncoder, StyleEncoderConfig
from generators import Generator, GeneratorConfig

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
RESULTS = Path(__file__).parent / "results"


def seconds(function: Callable[[], object], n: int) -> float:
    """Best of ``n`` runs after three to warm up: the machine is shared, and only waiting adds time."""

    def once() -> float:
        start = time.perf_counter()
        function()
        return time.perf_counter() - start

    for _ in range(3):
        once()
    return min(once() for _ in range(n))


def flops(function: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def peak(dtype: torch.dtype) -> float:
    """FLOP/s of a large matrix product."""
    size = 2048
    a, b = torch.randn(2, size, size).to(dtype).unbind(0)
    return 2 * size**3 / seconds(lambda: a @ b, 5)


def times(
    generator: Generator, encoder: StyleEncoder, args: argparse.Namespace, formulation: str
) -> dict[str, dict[str, float]]:
    """Seconds per image of generator and encoder in one formulation, by precision."""
    latents = torch.randn(args.batch, generator.n_styles, generator.w_dim)
    images = torch.rand(args.batch, 6, 256, 256) * 2 - 1
    generator.synthesis.reference = formulation == "reference"
    found = {}
    for name, dtype in DTYPES.items():
        generator.synthesis.compute_dtype = dtype
        draw = partial(generator.synthesis, latents)
        see = fold(encoder, dtype) if formulation != "reference" else encoder.to(dtype)
        if formulation == "compiled":
            weights = generator.synthesis.weights(dtype, for_compiler=True)
            draw = partial(torch.compile(generator.synthesis.draw), latents, "const", weights)
            see(images.to(dtype))
            see = torch.compile(see)
        pixels = images.to(dtype, memory_format=torch.channels_last)
        if formulation == "reference":
            pixels = images.to(dtype)
        found[name] = {
            "generator_s": seconds(draw, args.repeats) / args.batch,
            "encoder_s": seconds(partial(see, pixels), args.repeats) / args.batch,
        }
        label = f"{formulation} {name}"
        print(f"{label:17}", *(f"{k} {v:.3f}" for k, v in found[name].items()), flush=True)
    encoder.float()
    return found


def reference_times() -> dict[str, dict[str, float]]:
    """The reference in a process of its own, for torch reads its memory settings once."""
    command = [sys.executable, "-m", "benchmarks.inversion", *sys.argv[1:], "--only-reference"]
    environment = {**os.environ, "THP_MEM_ALLOC_ENABLE": "0"}
    child = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(child.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resolution", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--compile", action="store_true", help="ours compiled by inductor as well")
    parser.add_argument("--only-reference", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.manual_seed(0)
    generator = Generator(GeneratorConfig.standard(args.resolution)).requires_grad_(False)
    config = StyleEncoderConfig("BackboneEncoder", generator.n_styles)
    encoder = StyleEncoder(config).eval().requires_grad_(False)
    with torch.inference_mode():
        if args.only_reference:
            print(json.dumps(times(generator, encoder, args, "reference")))
            return
        found = {"reference": reference_times(), "ours": times(generator, encoder, args, "ours")}
        if args.compile:
            found["compiled"] = times(generator, encoder, args, "compiled")
        generator.synthesis.reference = True
        latents = torch.randn(1, generator.n_styles, generator.w_dim)
        work = {
            "generator": flops(lambda: generator.synthesis(latents)),
            "encoder": flops(lambda: encoder(torch.zeros(1, 6, 256, 256))),
        }
        speeds = {name: peak(dtype) for name, dtype in DTYPES.items()}
    report(args, work, speeds, found)


def report(
    args: argparse.Namespace,
    work: dict[str, float],
    speeds: dict[str, float],
    found: dict[str, dict[str, dict[str, float]]],
) -> None:
    """Print the table and write it to results/."""
    rows = []
    for formulation, by_precision in found.items():
        for precision, row in by_precision.items():
            row["inversion_s"] = args.steps * (row["generator_s"] + row["encoder_s"])
            ratios = {
                key.replace("_s", "_ratio"): found["reference"]["fp32"][key] / row[key]
                for key in list(row)
            }
            floors = {f"{name}_floor_s": n / speeds[precision] for name, n in work.items()}
            rows.append({"formulation": f"{formulation} {precision}", **row, **ratios, **floors})
    print(f"\ngenerator {work['generator'] / 1e9:.0f} GFLOP, encoder {work['encoder'] / 1e9:.0f}")
    print(
        f"{'':17} generator  ratio   floor  encoder  ratio  {args.steps} steps, one image   ratio"
    )
    for row in rows:
        print(
            f"{row['formulation']:17} {row['generator_s']:7.3f} s {row['generator_ratio']:5.2f}x "
            f"{row['generator_floor_s']:6.3f} {row['encoder_s']:7.3f} {row['encoder_ratio']:5.2f}x "
            f"{row['inversion_s']:17.2f} s {row['inversion_ratio']:6.2f}x"
        )
    record = {
        "device": cpu_name(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        **{name: value for name, value in vars(args).items() if name != "only_reference"},
        "gflop": {name: value / 1e9 for name, value in work.items()},
        "matmul_gflop_per_s": {name: value / 1e9 for name, value in speeds.items()},
        "rows": rows,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "inversion_cpu.json").write_text(json.dumps(record, indent=1) + "\n")


def tell(found: dict[str, object], path: Path) -> None:
    """Numbers by name into a file of JSON, and to people."""
    path.write_text(json.dumps(found, indent=1) + "\n")
    for name, value in found.items():
        print(f"{name:20}{value:.3f}" if isinstance(value, float) else f"{name:20}{value}")


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    names = [
        line.split(":", 1)[1].strip()
        for line in (info.read_text().splitlines() if info.exists() else [])
        if line.startswith("model name")
    ]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
