"""Seconds per image of a published-size inversion: reference formulation against ours, in one run.

    python benchmarks/inversion.py [--device cuda] [--resolution 1024] [--steps 5]

Random weights, the shape of ReStyle-pSp for FFHQ: IR-SE50 with 18 style heads at 256 px, StyleGAN2 config F.
The reference is the paper's formulation (weights scaled for each sample, grouped convolution, planar
layout) with torch's defaults, measured by a child process without the huge pages that ours asks for. The
floor is the time that the arithmetic alone would take at the speed of a large matrix product measured in the
same run, in the same precision.
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
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from encoders.style_encoder import StyleEncoder, StyleEncoderConfig
from generators import Generator, GeneratorConfig

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
RESULTS = Path(__file__).parent / "results"


def seconds(function: Callable[[], object], device: str, n: int) -> float:
    """Best of ``n`` runs after three to warm up: the machine is shared, and only waiting adds time."""

    def once() -> float:
        start = time.perf_counter()
        function()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    for _ in range(3):
        once()
    return min(once() for _ in range(n))


def flops(function: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def peak(dtype: torch.dtype, device: str) -> float:
    """FLOP/s of a large matrix product."""
    size = 8192 if device == "cuda" else 2048
    a, b = torch.randn(2, size, size, device=device).to(dtype).unbind(0)
    return 2 * size**3 / seconds(lambda: a @ b, device, 5)


def generator_times(
    generator: Generator, latents: Tensor, device: str, n: int, reference: bool
) -> dict[str, float]:
    """Seconds per image of one formulation in each precision."""
    times = {}
    generator.synthesis.reference = reference
    for name, dtype in DTYPES.items():
        generator.synthesis.compute_dtype = dtype
        label = f"{'reference' if reference else 'ours'} {name}"
        times[label] = seconds(lambda: generator.synthesis(latents), device, n) / len(latents)
        print(f"generator {label:15} {times[label]:8.4f} s an image", flush=True)
    return times


def reference_times() -> dict[str, float]:
    """The reference in a process of its own, for torch reads its memory settings once."""
    command = [sys.executable, *sys.argv, "--only-reference"]
    environment = {**os.environ, "THP_MEM_ALLOC_ENABLE": "0"}
    child = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(child.stdout.splitlines()[-1])


def encoder_times(encoder: nn.Module, images: Tensor, device: str, n: int) -> dict[str, float]:
    times = {}
    for name, dtype in DTYPES.items():
        encoder, pixels = encoder.to(dtype), images.to(dtype)
        times[name] = seconds(lambda e=encoder, p=pixels: e(p), device, n) / len(images)
        print(f"encoder   {name:15} {times[name]:8.4f} s an image", flush=True)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--resolution", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--only-reference", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.manual_seed(0)

    generator = Generator(GeneratorConfig.standard(args.resolution)).to(args.device)
    latents = torch.randn(args.batch, generator.n_styles, generator.w_dim, device=args.device)
    if args.only_reference:
        with torch.inference_mode():
            times = generator_times(generator, latents, args.device, args.repeats, reference=True)
        print(json.dumps(times))
        return
    drawn = reference_times()
    encoder = StyleEncoder(StyleEncoderConfig("BackboneEncoder", generator.n_styles)).eval()
    encoder = encoder.to(args.device)
    images = torch.rand(args.batch, 6, 256, 256, device=args.device) * 2 - 1
    with torch.inference_mode():
        work = {
            "generator": flops(lambda: generator.synthesis(latents)) / args.batch,
            "encoder": flops(lambda: encoder(images)) / args.batch,
        }
        speeds = {name: peak(dtype, args.device) for name, dtype in DTYPES.items()}
        drawn |= generator_times(generator, latents, args.device, args.repeats, reference=False)
        seen = encoder_times(encoder, images, args.device, args.repeats)
    report(args, work, speeds, drawn, seen)


def report(
    args: argparse.Namespace,
    work: dict[str, float],
    speeds: dict[str, float],
    drawn: dict[str, float],
    seen: dict[str, float],
) -> None:
    """Print the table and write it to results/."""
    base = drawn["reference fp32"]
    rows = []
    for label, time_s in drawn.items():
        precision = label.split()[1]
        rows.append(
            {
                "formulation": label,
                "generator_s": time_s,
                "generator_ratio": base / time_s,
                "floor_s": work["generator"] / speeds[precision],
                "encoder_s": seen[precision],
                "inversion_s": args.steps * (time_s + seen[precision]),
            }
        )
    print(f"\ngenerator {work['generator'] / 1e9:.0f} GFLOP, encoder {work['encoder'] / 1e9:.0f}")
    print(f"{'':17} generator  ratio   floor  encoder  {args.steps} steps, one image")
    for row in rows:
        print(
            f"{row['formulation']:17} {row['generator_s']:7.3f} s {row['generator_ratio']:5.2f}x "
            f"{row['floor_s']:6.3f} {row['encoder_s']:7.3f} {row['inversion_s']:9.2f} s"
        )
    device = torch.cuda.get_device_name() if args.device == "cuda" else cpu_name()
    record = {
        "device": device,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        **{name: value for name, value in vars(args).items() if name != "only_reference"},
        "gflop": {name: value / 1e9 for name, value in work.items()},
        "matmul_gflop_per_s": {name: value / 1e9 for name, value in speeds.items()},
        "rows": rows,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"inversion_{args.device}.json").write_text(json.dumps(record, indent=1) + "\n")


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
