"""Batches per second of encoder training against the floor of its arithmetic, float32 and bfloat16.

    python benchmarks/training.py ffhq [--device cuda] [--batch 8] [--repeats 10]
    python benchmarks/training.py compact

`ffhq` has the shape of the preset restyle-psp on StyleGAN2 of 1024 px: IR-SE50 at 256 px, five residual
steps, L2, LPIPS (AlexNet) and ArcFace. `compact` is the demo's preset on the demo's generator, with all of
its steps from the first batch on. Random weights where a file would be needed.

The floor is the time that the step's arithmetic alone would take at the speed of a large matrix product
measured in the same run, in the same precision, though not all of a bfloat16 training is bfloat16. The first
step is counted, and warms up; with `--repeats 0` (full size on a small machine) it is timed too, once and
with the cost of counting in it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from inversion import DTYPES, RESULTS, cpu_name, peak
from torch.utils.flop_counter import FlopCounterMode

from encoders.metrics.identity import FaceEmbedding
from encoders.metrics.perceptual import LPIPS
from encoders.training.trainer import PRESETS, EncoderTrainConfig, EncoderTrainer
from generators import Generator, GeneratorConfig, load_generator


@dataclass(frozen=True)
class Row:
    """One precision of one shape."""

    precision: str
    step_s: float  # a whole batch: all residual steps, forward and backward, and the updates
    cpu_s: float  # processor time of that step, all threads; much less per thread: others were busy here
    images_per_s: float
    tflop: float  # of a batch, convolutions and matrix products
    floor_s: float
    ratio: float  # step over floor
    peak_gib: float | None  # most memory allocated on the GPU


def ffhq(folder: Path) -> tuple[EncoderTrainConfig, Generator]:
    """Published size; the networks that measure are written as files of random weights."""
    lpips = LPIPS("alex")
    heads = {name: weight.abs() for name, weight in lpips.heads.state_dict().items()}
    files = {
        "lpips_weights": (lpips.backbone.state_dict(), "alexnet.pth"),
        "lpips_heads": (heads, "alex.pth"),
        "identity_model": (FaceEmbedding().state_dict(), "ir_se50.pth"),
    }
    for state, name in files.values():
        torch.save(state, folder / name)
    paths = {setting: str(folder / name) for setting, (_, name) in files.items()}
    config = replace(PRESETS["restyle-psp"], backbone_weights="random", **paths)
    return config, Generator(GeneratorConfig.standard(1024))


def compact(folder: Path) -> tuple[EncoderTrainConfig, Generator]:
    """The demo's; nothing is written."""
    return replace(PRESETS["compact"], ramp=0.0), load_generator("demo")


SHAPES: dict[str, Callable[[Path], tuple[EncoderTrainConfig, Generator]]] = {
    "ffhq": ffhq,
    "compact": compact,
}


def measure(config: EncoderTrainConfig, generator: Generator, device: str, repeats: int) -> Row:
    """Train on random images: best of ``repeats`` steps, for the machine is shared."""
    trainer = EncoderTrainer(config, generator, device)
    images = torch.rand(config.batch_size, 3, *trainer.input_size, device=device) * 2 - 1

    def once() -> tuple[float, float]:
        start, cpu_start = time.perf_counter(), time.process_time()
        trainer.step(images)
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start, time.process_time() - cpu_start

    with FlopCounterMode(display=False) as counter:
        counted = once()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    step_s, cpu_s = min((once() for _ in range(repeats)), default=counted)
    flop = counter.get_total_flops()
    floor_s = flop / peak(DTYPES[config.precision], device)
    memory = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else None
    return Row(
        config.precision,
        step_s,
        cpu_s,
        config.batch_size / step_s,
        flop / 1e12,
        floor_s,
        step_s / floor_s,
        memory,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, help="images; default: the preset's")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--precision", choices=DTYPES, action="append", help="default: both")
    args = parser.parse_args()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        config, generator = SHAPES[args.shape](Path(folder))
        config = replace(config, batch_size=args.batch or config.batch_size)
        rows = []
        for precision in args.precision or DTYPES:
            wanted = replace(config, precision=precision)
            rows.append(measure(wanted, generator, args.device, args.repeats))
            report(rows[-1])
    device = torch.cuda.get_device_name() if args.device == "cuda" else cpu_name()
    record = {
        "device": device,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "shape": args.shape,
        "batch": config.batch_size,
        "residual_steps": config.n_steps,
        "repeats": args.repeats,
        "rows": [asdict(row) for row in rows],
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"training_{args.shape}_{args.device}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")


def report(row: Row) -> None:
    memory = "" if row.peak_gib is None else f", {row.peak_gib:.1f} GiB"
    print(
        f"{row.precision}: {row.step_s:.3f} s a batch (processor {row.cpu_s:.3f}), "
        f"{1 / row.step_s:.2f} batches/s, {row.images_per_s:.2f} images/s; "
        f"{row.tflop:.3f} TFLOP, floor {row.floor_s:.3f} s, {row.ratio:.2f} times that{memory}",
        flush=True,
    )


if __name__ == "__main__":
    main()
